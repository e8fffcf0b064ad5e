"""Where something stands: learned tables, sinusoids and rotations."""

import math

import torch
from torch import nn
from torch.nn import functional as F


def table(*shape: int) -> nn.Parameter:
    """A learned embedding (positions, queries), started large enough to be told apart from the first step."""
    return nn.Parameter(0.5 * torch.randn(*shape))


def sinusoids(positions: torch.Tensor, dim: int) -> torch.Tensor:
    """Codes of `positions` [...], which need not be whole numbers (Vaswani et al. 2017, arXiv:1706.03762): [..., dim], first
    sines, then cosines, and a zero where `dim` is odd."""
    # Whisper's spacing: the last of the frequencies is exactly 1/10,000, hence "− 1" (Vaswani's table ends just above it).
    steps = torch.arange(dim // 2, device=positions.device) / (dim // 2 - 1)
    angles = positions[..., None] * torch.exp(-math.log(10_000) * steps)
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=-1), (0, dim % 2))


def rotations(positions: torch.Tensor, size: int) -> torch.Tensor:
    """Angles [T, size // 2] of a rotary position embedding (Su et al. 2021, arXiv:2104.09864) at `positions` [T]."""
    steps = torch.arange(size // 2, device=positions.device) / (size // 2)
    return positions[:, None] * torch.exp(-math.log(10_000) * steps)


def rotate(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """`x` [..., T, size] with each pair of its halves turned by `angles` [T, size // 2]: products depend on distances alone."""
    one, other = x.float().chunk(2, dim=-1)
    cosine, sine = angles.cos(), angles.sin()
    return torch.cat([one * cosine - other * sine, other * cosine + one * sine], dim=-1).to(x.dtype)
