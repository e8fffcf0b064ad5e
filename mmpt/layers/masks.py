"""Which positions are there, and which of them another sees; true: seen."""

import torch


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """True where position < length: [B, size] from `lengths` [B]."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def local_mask(mask: torch.Tensor, reach: int, block: int | None = None) -> torch.Tensor:
    """[B, 1, T, T], which key a query sees: itself, and of those valid in `mask` [B, T] the ones at most `reach` away.

    With `block`, nothing is too far ahead inside the query's block of that length, and everything beyond it is.
    """
    position = torch.arange(mask.shape[1], device=mask.device)
    behind = position[:, None] - position
    near = behind.abs() <= reach
    if block is not None:
        near = (behind <= reach) & (position // block <= (position // block)[:, None])
    # Each sees itself even past the end: a row of which nothing is seen would be a softmax over nothing, NaN.
    return (near & mask[:, None, None, :]) | (behind == 0)
