"""The one transformer block that every part of the image tokenizer is made of."""

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention of `x` [B, N, width] over `memory` [B, M, memory_width]; `mask` [N, M] or [B, 1, 1, M], true: seen."""

    def __init__(self, width: int, heads: int, memory_width: int | None = None):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(memory_width or width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(memory).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Self-attention, cross-attention where `memory_width` is given, and an MLP, each behind a layer norm (pre-norm)."""

    def __init__(self, width: int, heads: int, memory_width: int | None = None):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.cross_norm = nn.LayerNorm(width) if memory_width else None
        self.cross = Attention(width, heads, memory_width) if memory_width else None
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None, memory: torch.Tensor | None = None) -> torch.Tensor:
        """`x` [B, N, width]; `mask` is for the self-attention; `memory` [B, M, memory_width] is seen whole."""
        normed = self.norm(x)
        x = x + self.attention(normed, normed, mask)
        if self.cross is not None:
            x = x + self.cross(self.cross_norm(x), memory)
        return x + self.mlp(x)


def blocks(depth: int, width: int, heads: int, memory_width: int | None = None) -> nn.ModuleList:
    return nn.ModuleList(Block(width, heads, memory_width) for _ in range(depth))


def table(*shape: int) -> nn.Parameter:
    """A learned embedding (positions, queries), started large enough to be told apart from the first step."""
    return nn.Parameter(0.5 * torch.randn(*shape))
