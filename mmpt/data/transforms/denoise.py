"""A text with gaps, and what was in them."""

import random
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pydantic

from mmpt.config import Schema
from mmpt.data.transforms import Tokens, TokenTransform, joined, mark


class Denoiser(Schema):
    """A way of leaving gaps."""

    mode: str | None = None
    """The token of the text tokenizer that announces it; null: none."""
    rate: float = pydantic.Field(gt=0, lt=1)
    """The share of the tokens that is in gaps."""
    span: float | None = pydantic.Field(default=None, ge=1)
    """Tokens of a gap on average; null: a single gap, at the end."""
    share: float = pydantic.Field(default=1.0, gt=0)
    """How often it is taken, beside the shares of the others."""


def ul2() -> tuple[Denoiser, ...]:
    """The seven of UL2, table 1, each as often; the modes are those of its released weights."""
    return (
        Denoiser(mode="[NLU]", rate=0.15, span=3),
        Denoiser(mode="[NLU]", rate=0.15, span=8),
        Denoiser(mode="[S2S]", rate=0.25),
        Denoiser(mode="[NLG]", rate=0.5, span=3),
        Denoiser(mode="[NLG]", rate=0.5, span=8),
        Denoiser(mode="[NLG]", rate=0.15, span=64),
        Denoiser(mode="[NLG]", rate=0.5, span=64),
    )


class Denoise(TokenTransform):
    """UL2's mixture of denoisers (Tay et al. 2022, arXiv:2205.05131), for a decoder alone: the text with a mark in place of each
    gap, behind the token of its mode, and then each mark with what was in its gap. Gaps are drawn as T5 draws them (Raffel et al.
    2019, arXiv:1910.10683)."""

    carries = ("UL2 (mixture of denoisers)",)

    length: int | None = pydantic.Field(default=512, ge=8)
    """A longer text is cut into pieces of so many tokens, each a sequence of its own; null: it stays whole."""
    denoisers: tuple[Denoiser, ...] = pydantic.Field(default=ul2(), min_length=1)
    """Of which one is drawn for each piece."""
    sentinel: str = "<extra_id_{}>"
    """The tokens that stand for gaps, {} being 0, 1, …"""
    sentinels: int = pydantic.Field(default=100, ge=1)
    """How many there are, and so the most gaps of a piece."""
    learn: Literal["targets", "all"] = "targets"
    """targets: what was in the gaps; all: what stands around them too."""

    def marks(self) -> tuple[str, ...]:
        modes = dict.fromkeys(one.mode for one in self.denoisers if one.mode is not None)
        return (*modes, *(self.sentinel.format(number) for number in range(self.sentinels)))

    def apply(self, text: Tokens, marks: Mapping[str, int], draw: random.Random, scores: Mapping[str, object]) -> Tokens:
        (denoiser,) = draw.choices(self.denoisers, [one.share for one in self.denoisers])
        kept, gaps = self._spans(len(text.ids), denoiser, draw)
        if not gaps:  # too short for one
            return text
        around, inside, at = [], [], 0
        if denoiser.mode is not None:
            around.append(mark(marks[denoiser.mode], 0.0))
        for number, (stays, goes) in enumerate(zip(kept, gaps, strict=True)):
            sign, middle, end = marks[self.sentinel.format(number)], at + stays, at + stays + goes
            factor = 0.0 if self.learn == "targets" else 1.0
            around += [Tokens(text.ids[at:middle], text.weights[at:middle] * np.float32(factor))]
            around += [mark(sign, factor * float(text.weights[middle]))]
            inside += [mark(sign, float(text.weights[middle])), Tokens(text.ids[middle:end], text.weights[middle:end])]
            at = end
        return joined(*around, *inside)

    def _spans(self, tokens: int, denoiser: Denoiser, draw: random.Random) -> tuple[list[int], list[int]]:
        """Lengths of what stays and of the gap behind it, in turn."""
        hidden = min(max(round(tokens * denoiser.rate), 1), tokens - 1)
        if hidden < 1:
            return [], []
        count = 1 if denoiser.span is None else max(1, round(hidden / denoiser.span))
        count = min(count, hidden, tokens - hidden, self.sentinels)
        return _cut(tokens - hidden, count, draw), _cut(hidden, count, draw)


def _cut(total: int, parts: int, draw: random.Random) -> list[int]:
    """`total` in so many parts of at least 1, each such cut as likely."""
    edges = [0, *sorted(draw.sample(range(1, total), parts - 1)), total]
    return [end - start for start, end in zip(edges, edges[1:], strict=False)]
