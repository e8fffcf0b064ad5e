"""Published models that do not change unless they are asked to."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self

import torch
from torch import nn

P = ParamSpec("P")


class Resting(nn.Module):
    """At rest a module has no gradient, awake its weights learn. Either way there is no dropout and no statistic of a batch."""

    learns = False

    def train(self, mode: bool = True) -> Self:
        return super().train(False)

    def wake(self) -> None:
        """Let the weights learn from now on."""
        self.learns = True
        self.requires_grad_(True)


def at_rest(forward: Callable[Concatenate[Any, P], torch.Tensor]) -> Callable[Concatenate[Any, P], torch.Tensor]:
    """`forward` of a `Resting` module, without a graph while it rests: libraries may compute otherwise where there is one."""

    @wraps(forward)
    def call(self: Resting, *inputs: P.args, **options: P.kwargs) -> torch.Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.learns):
            return forward(self, *inputs, **options)

    return call
