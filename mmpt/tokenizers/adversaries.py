"""What tells something made from something real, and so teaches what made it: the game that discriminators of sound and of
pictures play (Goodfellow et al. 2014, arXiv:1406.2661), of which only the discriminators differ."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

Looked = tuple[Tensor, list[Tensor]]
"""A judgement [B, places], high for what is real, and the features of each layer."""
Game = Literal["least_squares", "hinge"]
"""Judgements of 1 and 0 (LSGAN, Mao et al. 2016, arXiv:1611.04076), or beyond 1 and −1 (Lim and Ye 2017, arXiv:1705.02894)."""


class Judged(NamedTuple):
    """Means over what was judged. `told`: of telling them apart, which teaches the discriminators alone. `fooled`, and
    `features`, the distance of what the layers see: teach what made it."""

    told: Tensor
    fooled: Tensor
    features: Tensor


class Judges(nn.Module):
    """Discriminators; both sides learn from a batch by one optimizer."""

    def __init__(self, each: Iterable[nn.Module], game: Game):
        super().__init__()
        self.game: Game = game
        self.each = nn.ModuleList(each)

    def forward(self, x: Tensor) -> list[Looked]:
        """What each says of `x` [B, …]."""
        return [one(x) for one in self.each]

    def judged(self, made: Tensor, real: Tensor) -> Judged:
        """Of what was `made` [B, …] of what stands for `real` [B, …]."""
        known, fake = self(real), self(made.detach())
        told = [_told(one, other, self.game) for (one, _), (other, _) in zip(known, fake, strict=True)]
        # Judged by weights that do not learn from it.
        frozen = {name: weight.detach() for name, weight in self.named_parameters()}
        judged: list[Looked] = functional_call(self, frozen, (made,))
        fooled = [(1 - one).square().mean() if self.game == "least_squares" else -one.mean() for one, _ in judged]
        seen = [
            (one - other.detach()).abs().mean() / other.detach().abs().mean().clamp_min(1e-3)
            for (_, ones), (_, others) in zip(judged, known, strict=True)
            for one, other in zip(ones, others, strict=True)
        ]
        return Judged(*(torch.stack(parts).mean() for parts in (told, fooled, seen)))


def _told(real: Tensor, fake: Tensor, game: Game) -> Tensor:
    if game == "least_squares":
        return (1 - real).square().mean() + fake.square().mean()
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def adaptive_weight(rest: Tensor, fooled: Tensor, last: Tensor) -> Tensor:
    """How much longer the gradient of `rest` is than that of `fooled` at the weight of the `last` layer of what made it, a scalar
    without gradient (VQGAN, Esser et al. 2021, arXiv:2012.09841, eq. 7)."""
    long, short = (torch.autograd.grad(one, last, retain_graph=True)[0].float().norm() for one in (rest, fooled))
    return (long / (short + 1e-6)).clamp(max=1e4).detach()
