"""Layers that the encoder and both decoders share: pre-norm, padding masked everywhere."""

import math

import torch
from torch import nn
from torch.nn import functional as F


def sinusoids(places: torch.Tensor, dim: int) -> torch.Tensor:
    """Codes of `places` [...], which need not be whole numbers (Vaswani et al. 2017): [..., dim], first sines, then cosines."""
    steps = torch.arange(dim // 2, device=places.device) / (dim // 2 - 1)
    angles = places[..., None] * torch.exp(-math.log(10_000) * steps)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """True where position < length: [B, size] from `lengths` [B]."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def local_mask(mask: torch.Tensor, reach: int, block: int | None = None) -> torch.Tensor:
    """[B, 1, T, T], which key a query sees: itself, and of those valid in `mask` [B, T] the ones at most `reach` away.

    With `block`, nothing is too far ahead inside the query's block of that length, and everything beyond it is.
    """
    place = torch.arange(mask.shape[1], device=mask.device)
    behind = place[:, None] - place
    near = behind.abs() <= reach
    if block is not None:
        near = (behind <= reach) & (place // block <= (place // block)[:, None])
    return (near & mask[:, None, None, :]) | (behind == 0)


def rotations(places: torch.Tensor, size: int) -> torch.Tensor:
    """Angles [T, size // 2] of a rotary position embedding (Su et al. 2021) at `places` [T]."""
    steps = torch.arange(size // 2, device=places.device) / (size // 2)
    return places[:, None] * torch.exp(-math.log(10_000) * steps)


def rotate(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """`x` [..., T, size] with each pair of its halves turned by `angles` [T, size // 2]: products depend on distances alone."""
    one, other = x.float().chunk(2, dim=-1)
    cosine, sine = angles.cos(), angles.sin()
    return torch.cat([one * cosine - other * sine, other * cosine + one * sine], dim=-1).to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention of `x` [B, T, D] over `context` [B, S, D], by default itself; `mask` broadcasts to [B, 1, T, S].
    With `angles` [T, D / heads / 2], queries and keys know their distances."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None,
        context: torch.Tensor | None = None,
        angles: torch.Tensor | None = None,
    ) -> torch.Tensor:
        query = self._split(self.query(x))
        key, value = (self._split(part) for part in self.key_value(x if context is None else context).chunk(2, dim=-1))
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """Pre-norm transformer layer; with `cross`, it also attends to a context of the same width."""

    def __init__(self, dim: int, heads: int, dropout: float, cross: bool = False):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.cross_norm = nn.LayerNorm(dim) if cross else None
        self.cross = Attention(dim, heads) if cross else None
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: torch.Tensor,
        mask: torch.Tensor,
        context: torch.Tensor | None = None,
        context_mask: torch.Tensor | None = None,
        angles: torch.Tensor | None = None,
    ) -> torch.Tensor:
        x = x + self.dropout(self.attention(self.norm(x), mask, angles=angles))
        if self.cross is not None:
            x = x + self.dropout(self.cross(self.cross_norm(x), context_mask, context))
        return x + self.dropout(self.mlp(x))


KERNEL = 7


class ConvBlock(nn.Module):
    """Depthwise convolution over time, then a pointwise MLP (ConvNeXt, Liu et al. 2022), on `x` [B, T, D].

    `mask` [B, T, 1] is false past the end, so that nothing leaks in from there. A `causal` one sees what lies before alone.
    """

    def __init__(self, dim: int, causal: bool = False):
        super().__init__()
        self.padding = (KERNEL - 1, 0) if causal else (KERNEL // 2, KERNEL // 2)
        self.spread = nn.Conv1d(dim, dim, KERNEL, groups=dim)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return x + self.mlp(self.spread(F.pad((x * mask).transpose(1, 2), self.padding)).transpose(1, 2))
