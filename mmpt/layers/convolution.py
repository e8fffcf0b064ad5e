"""A convolutional block over time."""

import torch
from torch import nn
from torch.nn import functional as F

KERNEL = 7
"""Frames that a block sees."""


class ConvBlock(nn.Module):
    """Depthwise convolution over time, then a pointwise MLP (ConvNeXt, Liu et al. 2022, arXiv:2201.03545), on `x` [B, T, D].

    `mask` [B, T, 1] is false past the end, so that nothing leaks in from there. A `causal` one sees what lies before alone.
    """

    def __init__(self, dim: int, causal: bool = False):
        super().__init__()
        self.padding = (KERNEL - 1, 0) if causal else (KERNEL // 2, KERNEL // 2)
        self.spread = nn.Conv1d(dim, dim, KERNEL, groups=dim)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return x + self.mlp(self.spread(F.pad((x * mask).transpose(1, 2), self.padding)).transpose(1, 2))
