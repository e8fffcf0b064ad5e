"""What a training step gives: sums and counts, so that a batch that is shared out among ranks, or taken in several pieces, gives
what it gives as a whole."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Term(NamedTuple):
    """A part of the loss: `weight` · Σ `total` ÷ Σ `count`, both summed over all ranks and all batches of a step.

    With weight 0 it is told and not learned, and may be a vector, such as a number for each modality (`count` as well, or a
    scalar; 0 where a sum is told). `beside`: it is learned, but told beside the loss and not in it, such as what keeps a router
    even.
    """

    # A tuple, not a dataclass: ZeRO 3 looks for tensors in what a forward pass gives, and knows tuples and mappings alone.
    total: Tensor
    count: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]  # nobody asks a Term for tuple's count(value)
    weight: float = 1.0
    beside: bool = False

    @classmethod
    def mean(cls, value: Tensor, count: int, weight: float = 1.0) -> "Term":
        """Of a mean `value` over `count` examples."""
        return cls(value * count, value.new_tensor(float(count)), weight)

    def detached(self) -> "Term":
        """The same without its graph."""
        return self._replace(total=self.total.detach(), count=self.count.detach())


def distance(found: Tensor, wanted: Tensor) -> Term:
    """Squared error of vectors [n, D] relative to the variance of what they should be, for each vector."""
    spread = wanted.float().var(dim=0, unbiased=False).sum().clamp_min(1e-6)
    error = (found.float() - wanted.float()).square().sum()
    return Term(error / spread, error.new_tensor(float(len(found))))


CODES, RESTARTS = "given_codes", "restarts"
"""Names of the terms that tell of a codebook: how often each code was given, and how many dead ones were restarted so far."""


def codebook_terms(codes: Tensor, size: int, restarts: int) -> dict[str, Term]:
    """What is told of `codes` (int64 [n]) of a codebook of `size`, in which `restarts` dead codes were restarted so far."""
    counts = torch.bincount(codes.reshape(-1), minlength=size).double()
    return {
        CODES: Term(counts, counts.new_zeros(()), 0.0),
        RESTARTS: Term(counts.new_full((), float(restarts)), counts.new_ones(()), 0.0),  # the same on all ranks
    }


@dataclass(frozen=True)
class Share:
    """What one rank trains on in a step.

    `counts`: of each learned term its count in all of `batches` (float64 scalars on the host), which must be known before the
    forward pass where there are several; where it is empty, there is one batch, whose own terms tell. `amounts`: of work, such
    as tokens, summed over the ranks. `names`: of what is in each batch, for messages.
    """

    batches: list[Any]
    counts: dict[str, Tensor] = field(default_factory=dict)
    amounts: dict[str, float] = field(default_factory=dict)
    names: tuple[str, ...] = ()


class Trainable(nn.Module):
    """A module that the trainer trains: its parameters that ask for a gradient."""

    def loss(self, batch: Any, progress: float) -> dict[str, Term]:
        """The terms of the loss of a batch; `progress` runs from 0 to 1 over the training."""
        raise NotImplementedError

    def measure(self, batch: Any) -> dict[str, Term]:
        """What is told of a batch that is not learned from."""
        raise NotImplementedError

    def share(self, batches: list[Any]) -> Share:
        """What this rank trains on of the batches that it was given for a step."""
        return Share(batches)

    def weights(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Its parameters by the names that a checkpoint gives them."""
        return self.named_parameters()

    def saved(self) -> nn.Module:
        """The module whose weights and buffers a checkpoint holds under those names."""
        return self

    def read_by_loss(self) -> tuple[Tensor, ...]:
        """Weights that `loss` reads outside of the forward pass of the modules that hold them."""
        return ()
