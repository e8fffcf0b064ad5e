"""Texts said in other words, the original beside them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import pydantic

from mmpt.data.lost import Documents, Lost
from mmpt.data.passages import in_place
from mmpt.data.rewrite.checks import Checks
from mmpt.data.rewrite.operations import Operation, origin, texts, unused
from mmpt.data.rewrite.prompt import Answer, Prompt
from mmpt.document import Document

STYLES = {
    "easy": "Say the text below again in short, simple sentences and common words that a small child understands.",
    "medium": "Say the text below again in other words, in the clear and neutral English of an encyclopedia.",
    "hard": "Say the text below again tersely, in the rare and precise words of a scholar writing for scholars.",
    "qa": "Turn the text below into questions and answers that hold all it says, each as a line that begins with 'Question:' "
    "and a line that begins with 'Answer:'.",
}
_REST = "Keep every fact and every number, add none, and write nothing else."


class Rephrase(Operation):
    """Each document once more for each style, its passages paraphrased (WRAP, Maini et al. 2024, arXiv:2401.16380, section 3).

    Pictures and utterances stand in a copy where they stood. A passage whose answer cannot be used is in the copy as it was; a
    copy of which no passage was paraphrased is not written.
    """

    carries: ClassVar[tuple[str, ...]] = ("WRAP (rephrasing the web)",)

    styles: tuple[str, ...] = pydantic.Field(default=("medium",), min_length=1)
    """easy, medium, hard, qa, or names of `instructions`: a copy of the document for each."""
    instructions: dict[str, str] = {}
    """Further styles, by name what is asked for."""
    original: bool = True
    """Whether the document itself is written beside its copies; false for a set of copies alone, to be mixed by weight."""
    max_words: int = pydantic.Field(default=220, ge=1)
    """Words of a passage at most; WRAP takes 300 tokens."""
    least_words: int = pydantic.Field(default=20, ge=1)
    """A shorter passage stays as it is."""
    checks: Checks = Checks(least_share=0.3, most_share=3.0, most_copied=0.7, least_shared=0.25)
    """What a paraphrase must be like."""

    @pydantic.model_validator(mode="after")
    def _known(self) -> "Rephrase":
        unknown = [style for style in self.styles if style not in STYLES | self.instructions]
        if unknown or len(set(self.styles)) < len(self.styles):
            raise ValueError(f"styles: expected some of {', '.join(STYLES | self.instructions)}, each once, not {self.styles}")
        return self

    def ask(self, document: Document) -> list[Prompt]:
        asked = [text for _, pieces in texts(document, self.max_words, self.least_words) for text, long in pieces if long]
        styles = [(STYLES | self.instructions)[style] for style in self.styles]
        return [Prompt(f"{style} {_REST}\n\n{text.strip()}", text) for style in styles for text in asked]

    def take(self, document: Document, answers: Sequence[Answer]) -> Documents:
        if self.original:
            yield document
        given = enumerate(answers)
        for style in self.styles:
            parts, changed = list(document.parts), 0
            for place, pieces in texts(document, self.max_words, self.least_words):
                said = ""
                for text, long in pieces:
                    number, answer = next(given) if long else (0, None)
                    if answer and answer.rule:
                        yield unused(document, number, answer)
                    use = answer is not None and not answer.rule
                    said += in_place(text, answer.text) if answer and use else text
                    changed += use
                parts[place] = replace(parts[place], text=said)
            name = f"{document.id}/{style}"
            if changed:
                yield Document(name, document.source, tuple(parts), origin(document, self, style=style, passages=changed))
            else:
                yield Lost(name, "no passage of it was paraphrased", document.id, not self.original, self.kind)
