"""What every quantiser takes and gives."""

from typing import NamedTuple

import torch


class Quantized(NamedTuple):
    """`states` [..., D] with straight-through gradient, `codes` int64 [...] (of a residual quantiser [..., stages]), and the
    `loss` summed over the `count` vectors that it was taken of (both scalars, 0 outside training)."""

    states: torch.Tensor
    codes: torch.Tensor
    loss: torch.Tensor
    count: torch.Tensor


def without_loss(states: torch.Tensor, codes: torch.Tensor) -> Quantized:
    """Of a quantiser that asks nothing of its inputs."""
    zero = torch.zeros((), dtype=torch.float32, device=states.device)
    return Quantized(states, codes, zero, zero)
