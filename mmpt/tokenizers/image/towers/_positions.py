"""Learned positions of images of one side, for images of another."""

from collections.abc import Mapping

import torch
from torch.nn import functional as F


def resampled(weights: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`weights` in the shapes of `wanted`: tables of positions that differ are interpolated, bicubic and antialiased, as
    pictures of as many channels (Dosovitskiy et al. 2020, section 3.2; the filter is timm's). Tables are [1, H, W, C],
    [1, C, H, W], or [..., N, C] with a square of positions behind what is no patch.

    Raises `ValueError`, naming the first, where another tensor differs: what depends on the distance of two positions is not
    interpolated.
    """
    return {name: _resampled(name, value, wanted[name].shape) for name, value in weights.items() if name in wanted}


def _resampled(name: str, value: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    if value.shape == shape:
        return value
    if "pos" not in name or "rel" in name or value.ndim != len(shape):
        raise ValueError(f"{name} is a table {list(value.shape)} of its own side, which cannot be interpolated")
    if value.ndim == 4 and value.shape[0] == shape[0] == 1:
        if value.shape[-1] == shape[-1] and value.shape[1] != shape[1]:  # [1, H, W, C]
            return _interpolated(value.permute(0, 3, 1, 2), shape[1:3]).permute(0, 2, 3, 1)
        if value.shape[1] == shape[1] and value.shape[3] != shape[3]:  # [1, C, H, W]
            return _interpolated(value, shape[2:])
    old, new = _square(value.shape[-2]), _square(shape[-2])
    first = value.shape[-2] - old**2
    if first != shape[-2] - new**2 or value.shape[-1] != shape[-1]:
        raise ValueError(f"{name} is a table {list(value.shape)} of its own side, which does not become {list(shape)}")
    grid = value[..., first:, :].reshape(-1, old, old, value.shape[-1]).permute(0, 3, 1, 2)
    grid = _interpolated(grid, (new, new)).permute(0, 2, 3, 1).reshape(*value.shape[:-2], new**2, -1)
    return torch.cat([value[..., :first, :], grid], dim=-2)


def _square(count: int) -> int:
    """The side of the largest square in so many positions."""
    return int(count**0.5)


def _interpolated(grid: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    return F.interpolate(grid.float(), size=tuple(size), mode="bicubic", antialias=True).to(grid.dtype)
