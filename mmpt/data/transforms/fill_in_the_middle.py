"""The middle of a text from what stands around it."""

import random
from collections.abc import Mapping

import pydantic

from mmpt.data.transforms import Tokens, TokenTransform, joined, mark


class FillInTheMiddle(TokenTransform):
    """The middle of a text moved to its end, so that a model that reads from left to right learns to fill in (Bavarian et al.
    2022, arXiv:2207.14255): prefix, suffix, middle, or suffix first, its spans cut at tokens. All of it is learned, as before."""

    rate: float = pydantic.Field(default=0.5, ge=0, le=1)
    """The share of texts of which this is made; the others stay as they are."""
    suffix_first: float = pydantic.Field(default=0.5, ge=0, le=1)
    """Of these, the share whose suffix comes first, and prefix and middle in one after it (the paper's SPM)."""
    prefix: str = "<|fim_prefix|>"
    """The token before the prefix; this and the next two are of the text tokenizer."""
    suffix: str = "<|fim_suffix|>"
    """Before the suffix."""
    middle: str = "<|fim_middle|>"
    """Before the middle."""

    def marks(self) -> tuple[str, ...]:
        return (self.prefix, self.suffix, self.middle)

    def apply(self, text: Tokens, marks: Mapping[str, int], draw: random.Random, scores: Mapping[str, object]) -> Tokens:
        if draw.random() >= self.rate:
            return text
        suffix_first = draw.random() < self.suffix_first
        first, second = sorted(draw.randrange(len(text.ids) + 1) for _ in range(2))
        before, between, behind = (
            Tokens(text.ids[own], text.weights[own]) for own in (slice(first), slice(first, second), slice(second, None))
        )
        weight = float(text.weights[-1])
        opening, turn, asking = (mark(marks[name], weight) for name in self.marks())
        if suffix_first:
            return joined(opening, turn, behind, asking, before, between)
        return joined(opening, before, turn, behind, asking, between)
