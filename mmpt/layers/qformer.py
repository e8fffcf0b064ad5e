"""Learned queries that look at features: BLIP-2's Q-Former (Li et al. 2023, arXiv:2301.12597), causal as in SEED (Ge et al. 2023,
arXiv:2307.08041, section 3.1), and what SEED's stage II sets behind the codebook (section 3.2)."""

import torch
from torch import nn

from mmpt.layers.attention import Attention, blocks
from mmpt.layers.positions import table


class Qformer(nn.Module):
    """`queries` learned queries in `depth` blocks, which attend to features `feature_width` wide and among themselves; where it
    is `causal`, only to earlier ones: state t is a function of the image and queries 0 … t, so that the states form a sequence
    that a causal language model can follow.

    Cross-attention starts with its logits `sharpness`² times their usual size, so that queries look at different positions from
    the first step.
    """

    mask: torch.Tensor

    def __init__(
        self, queries: int, width: int, depth: int, heads: int, feature_width: int, sharpness: float = 1.0, causal: bool = True
    ):
        super().__init__()
        self.queries = table(queries, width)
        self.blocks = blocks(depth, width, heads, feature_width)
        with torch.no_grad():
            for block in self.blocks:
                cross = block.cross
                assert isinstance(cross, Attention)  # built with a memory
                # Logits are products of queries and keys, so scaling both gives the square; the values keep their size.
                cross.query.weight *= sharpness
                cross.key_value.weight[:width] *= sharpness
        self.norm = nn.LayerNorm(width)
        mask = torch.ones(queries, queries, dtype=torch.bool)
        self.register_buffer("mask", mask.tril() if causal else mask, persistent=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """States [B, queries, width] of `features` [B, N, feature_width]."""
        x = self.queries.expand(len(features), -1, -1)
        for block in self.blocks:
            x = block(x, self.mask, features)
        return self.norm(x)


class Branch(nn.Module):
    """Code vectors `code_dim` wide, widened, with positions of their own, through plain transformer blocks."""

    def __init__(self, queries: int, width: int, depth: int, heads: int, code_dim: int):
        super().__init__()
        self.up = nn.Sequential(nn.Linear(code_dim, code_dim), nn.Tanh(), nn.Linear(code_dim, width))
        self.positions = table(queries, width)
        self.blocks = blocks(depth, width, heads)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """[B, queries, width] of `vectors` [B, queries, code_dim]."""
        x = self.up(vectors) + self.positions
        for block in self.blocks:
            x = block(x)
        return x


class ReverseQformer(nn.Module):
    """One query that looks at what a branch of its own makes of the codes, and gives the image's embedding."""

    def __init__(self, queries: int, width: int, depth: int, heads: int, code_dim: int, reverse_depth: int, out: int):
        super().__init__()
        self.branch = Branch(queries, width, depth, heads, code_dim)
        self.query = table(1, width)
        self.blocks = blocks(reverse_depth, width, heads, width)
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """[B, out] of `vectors` [B, queries, code_dim]."""
        memory = self.branch(vectors)
        x = self.query.expand(len(vectors), -1, -1)
        for block in self.blocks:
            x = block(x, None, memory)
        return self.out(x[:, 0])
