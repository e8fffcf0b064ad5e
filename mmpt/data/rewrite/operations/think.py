"""Thoughts about a text behind it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import pydantic

from mmpt.data.lost import Documents
from mmpt.data.passages import passages
from mmpt.data.rewrite.checks import Checks
from mmpt.data.rewrite.operations import Operation, origin, unused
from mmpt.data.rewrite.prompt import Answer, Prompt
from mmpt.document import Document, Text

_ASK = (
    "Below is the beginning of a document. Think about it as an expert who explains every hard step to a learner: what is it "
    "about, why does each step follow, what must one know to understand it? Write down these thoughts alone.\n\n"
)


class Think(Operation):
    """Each document with the thoughts of an expert about it at its end (TPT, thinking augmented pre-training, Wang et al. 2025,
    arXiv:2509.20186): hard tokens come after more of what explains them.

    A document whose thoughts cannot be used stays as it was. How many words were added stands in meta["rewritten"].
    """

    carries: ClassVar[tuple[str, ...]] = ("Thinking augmented Pre-training (TPT)",)

    max_words: int = pydantic.Field(default=1500, ge=1)
    """Words of the document's text, from its beginning, that are thought about."""
    least_words: int = pydantic.Field(default=20, ge=1)
    """Of a document of fewer nothing is thought."""
    form: str = "\n\n<think>\n{thoughts}\n</think>"
    """How the thoughts stand behind the document."""
    checks: Checks = Checks(least_words=5, most_copied=0.7)
    """What thoughts must be like; `most_words` is their cap."""

    @pydantic.field_validator("form")
    @classmethod
    def _has_a_place(cls, value: str) -> str:
        if value.count("{thoughts}") != 1:
            raise ValueError("expected {thoughts} once in it")
        return value

    def ask(self, document: Document) -> list[Prompt]:
        said = [part for part in document.parts if isinstance(part, Text)]
        text = "\n\n".join(part.text.strip() for part in said if part.role is None)
        if len(text.split()) < self.least_words:
            return []
        first = passages(text, self.max_words)[0]
        return [Prompt(f"{_ASK}{first.strip()}", first)]

    def take(self, document: Document, answers: Sequence[Answer]) -> Documents:
        for number, answer in enumerate(answers):
            if answer.rule:
                yield unused(document, number, answer)
                continue
            thoughts = Text(self.form.replace("{thoughts}", answer.text.strip()))
            meta = origin(document, self, words=len(answer.text.split()))
            document = replace(document, parts=(*document.parts, thoughts), meta=meta)
        yield document
