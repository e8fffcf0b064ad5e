"""SEED's Q-Former (Ge et al. 2023, section 3.1) and what stage II sets behind the codebook (section 3.2)."""

import torch
from torch import nn

from mmpt.tokenizers.image.config import QformerConfig
from mmpt.tokenizers.image.layers import blocks, table


class Qformer(nn.Module):
    """Learned queries that attend to the features and, where it is causal, among themselves only to earlier ones: state t is a
    function of the picture and queries 0 … t, so that the states form a sequence that a causal language model can follow."""

    def __init__(self, config: QformerConfig, feature_width: int):
        super().__init__()
        self.queries = table(config.queries, config.width)
        self.blocks = blocks(config.depth, config.width, config.heads, feature_width)
        with torch.no_grad():
            for block in self.blocks:
                block.cross.query.weight *= config.sharpness
                block.cross.key_value.weight[: config.width] *= config.sharpness
        self.norm = nn.LayerNorm(config.width)
        mask = torch.ones(config.queries, config.queries, dtype=torch.bool)
        self.register_buffer("mask", mask.tril() if config.causal else mask, persistent=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """States [B, queries, width] of `features` [B, N, feature_width]."""
        x = self.queries.expand(len(features), -1, -1)
        for block in self.blocks:
            x = block(x, self.mask, features)
        return self.norm(x)


class Branch(nn.Module):
    """The vectors of the codes, widened, with positions of their own, through plain transformer blocks: [B, queries, width]."""

    def __init__(self, config: QformerConfig, code_dim: int, depth: int):
        super().__init__()
        self.up = nn.Sequential(nn.Linear(code_dim, code_dim), nn.Tanh(), nn.Linear(code_dim, config.width))
        self.positions = table(config.queries, config.width)
        self.blocks = blocks(depth, config.width, config.heads)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        x = self.up(vectors) + self.positions
        for block in self.blocks:
            x = block(x)
        return x


class ReverseQformer(nn.Module):
    """One query that looks at what a branch of its own makes of the codes, and gives the picture's embedding [B, out]."""

    def __init__(self, config: QformerConfig, code_dim: int, depth: int, reverse_depth: int, out: int):
        super().__init__()
        self.branch = Branch(config, code_dim, depth)
        self.query = table(1, config.width)
        self.blocks = blocks(reverse_depth, config.width, config.heads, config.width)
        self.out = nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, out))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        memory = self.branch(vectors)
        x = self.query.expand(len(vectors), -1, -1)
        for block in self.blocks:
            x = block(x, None, memory)
        return self.out(x[:, 0])
