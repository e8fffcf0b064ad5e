"""The one transformer block that tokenizers and query connectors are made of: pre-norm, masked by what is there."""

import torch
from torch import nn
from torch.nn import functional as F

from mmpt.layers.positions import rotate


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, arXiv:1706.03762) over a memory `memory_width` wide, by default `width`."""

    def __init__(self, width: int, heads: int, memory_width: int | None = None):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(memory_width or width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor | None = None, angles: torch.Tensor | None = None
    ) -> torch.Tensor:
        """[B, T, width] of `x` [B, T, width] over `memory` [B, S, memory_width]. `mask` (true: seen) broadcasts to [B, 1, T, S];
        with `angles` [T, width / heads / 2], queries and keys know their distances."""
        query = self._split(self.query(x))
        key, value = (self._split(part) for part in self.key_value(memory).chunk(2, dim=-1))
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Self-attention, cross-attention where `memory_width` is given, and an MLP, each behind a layer norm (pre-norm, Xiong et al.
    2020, arXiv:2002.04745)."""

    def __init__(self, width: int, heads: int, memory_width: int | None = None, dropout: float = 0.0):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.cross_norm = nn.LayerNorm(width) if memory_width else None
        self.cross = Attention(width, heads, memory_width) if memory_width else None
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None = None,
        memory: torch.Tensor | None = None,
        memory_mask: torch.Tensor | None = None,
        angles: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """[B, T, width] of `x` [B, T, width]; `mask` and `angles` are for the self-attention, `memory` [B, S, memory_width] and
        `memory_mask` (None: all is seen) for the other; a block that has one needs a memory."""
        normed = self.norm(x)
        x = x + self.dropout(self.attention(normed, normed, mask, angles))
        if self.cross is not None and self.cross_norm is not None:
            x = x + self.dropout(self.cross(self.cross_norm(x), memory, memory_mask))
        return x + self.dropout(self.mlp(x))


def blocks(depth: int, width: int, heads: int, memory_width: int | None = None, dropout: float = 0.0) -> nn.ModuleList:
    """`depth` of them."""
    return nn.ModuleList(Block(width, heads, memory_width, dropout) for _ in range(depth))
