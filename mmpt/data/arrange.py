"""From a document to training sequences: which parts, in which order, and which of them are learned."""

import pydantic

from mmpt.config import Schema
from mmpt.document import Document, Part, Text
from mmpt.modality import MODALITIES, Modality, modality_of


class Arrangement(Schema):
    """One training sequence made from a document."""

    order: tuple[Modality, ...] = pydantic.Field(min_length=1)
    """Modalities of the parts: the first part of each; a modality named again takes the next part of its kind, so no part is used
    twice."""
    prompt: str = ""
    """Text put in front, read but never learned."""
    weights: tuple[float, ...] = ()
    """Factors on the loss of each part; empty: 1."""
    alternate: tuple[pydantic.PositiveInt, pydantic.PositiveInt] | None = None
    """(text, speech): so many tokens of text and then so many codes of speech in turn, where `order` ends with text and speech;
    what is left of either comes at the end (GLM-4-Voice, arXiv:2412.02612, section 3.3, with 13 and 26)."""

    @pydantic.model_validator(mode="after")
    def _one_weight_for_each_part(self) -> "Arrangement":
        if self.weights and len(self.weights) != len(self.order):
            raise ValueError(f"{len(self.weights)} weights for {len(self.order)} parts")
        if self.alternate and self.order[-2:] != ("text", "speech"):
            raise ValueError("alternate: expected an order that ends with text and speech")
        return self


def arrange(document: Document, arrangement: Arrangement) -> list[tuple[Part, float]] | None:
    """(part, loss weight) in the arrangement's order, or None where the document has too few parts of a modality asked for."""
    left = {name: iter([part for part in document.parts if modality_of(part) == name]) for name in MODALITIES}
    chosen: list[tuple[Part, float]] = []
    weights = arrangement.weights or (1.0,) * len(arrangement.order)
    for modality, weight in zip(arrangement.order, weights, strict=True):
        part = next(left[modality], None)
        if part is None:
            return None
        chosen.append((part, part.weight * weight))
    if not arrangement.prompt:
        return chosen
    first = chosen[0][0]  # in a conversation, who speaks first says the prompt too
    return [(Text(arrangement.prompt, role=first.role, turn=first.turn), 0.0), *chosen]


def as_it_stands(document: Document) -> list[tuple[Part, float]]:
    """Every part in the document's own order, with its own weight."""
    return [(part, part.weight) for part in document.parts]
