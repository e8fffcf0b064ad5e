"""What a training step of a tokenizer gives: sums and counts, so that a batch that is shared out among ranks gives what it gives
as a whole."""

from typing import NamedTuple

import torch


class Term(NamedTuple):
    """A part of the loss: `weight` · Σ `total` ÷ Σ `count`, both scalars and summed over all ranks."""

    total: torch.Tensor
    count: torch.Tensor  # pyright: ignore[reportIncompatibleMethodOverride]  # nobody asks a Term for tuple's count(value)
    weight: float = 1.0

    @classmethod
    def mean(cls, value: torch.Tensor, count: int, weight: float = 1.0) -> "Term":
        """Of a mean `value` over `count` examples."""
        return cls(value * count, value.new_tensor(float(count)), weight)


class UsedCodes(NamedTuple):
    """`codes` int64 [n] that a batch was given, of a codebook of `size`, in which `restarts` dead codes were restarted so far."""

    codes: torch.Tensor
    size: int
    restarts: int


class StepOutput(NamedTuple):
    """Terms of the loss by name, and the codes, where there are any."""

    terms: dict[str, Term]
    used: UsedCodes | None = None
