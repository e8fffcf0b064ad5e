"""Pictures described anew."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from mmpt.data.curate.pictures_asked import without_boxes
from mmpt.data.lost import Documents
from mmpt.data.rewrite.checks import Checks
from mmpt.data.rewrite.operations import Operation, origin, unused
from mmpt.data.rewrite.prompt import Answer, Prompt
from mmpt.document import Document, Image, Part, Text


class Recaption(Operation):
    """Pictures described by a model that sees them, where the web's own words say little (Nguyen et al. 2023, "Improving
    multimodal datasets with image captioning", arXiv:2307.10350).

    What stood there before is kept in meta["rewritten"]; a picture whose description cannot be used keeps its own.
    """

    ask_by: str = "Describe this picture in one or two sentences: what it shows, and any text in it."
    """What is asked."""
    tell: bool = False
    """Whether the alternative text there is is told, to be made use of."""
    to: Literal["alt", "text"] = "alt"
    """alt: the picture's alternative text; text: a text of its own behind the picture."""
    checks: Checks = Checks(least_words=3, most_words=200)
    """What a description must be like."""

    def ask(self, document: Document) -> list[Prompt]:
        return [
            Prompt(
                f"{self.ask_by} It was found with the words: {part.alt}" if self.tell and part.alt else self.ask_by, image=part
            )
            for part in document.parts
            if isinstance(part, Image)
        ]

    def take(self, document: Document, answers: Sequence[Answer]) -> Documents:
        given = enumerate(answers)
        parts: list[Part] = []
        before: dict[str, str] = {}
        for place, part in enumerate(document.parts):
            parts.append(part)
            if not isinstance(part, Image):
                continue
            number, answer = next(given)
            if answer.rule:
                yield unused(document, number, answer)
                continue
            before[str(place)] = part.alt
            said = answer.text.strip()
            if self.to == "alt":
                parts[-1] = replace(part, alt=said)
            else:
                parts.append(Text(said, part.weight, part.role, part.turn))
        meta = origin(document, self, alt=before) if before else document.meta
        if self.to == "text":
            meta = without_boxes(meta)
        yield replace(document, parts=tuple(parts), meta=meta)
