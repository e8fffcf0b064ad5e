"""From the vectors of the codes back to pixels."""

import torch
from torch import nn

from mmpt.tokenizers.image.config import DecoderConfig
from mmpt.tokenizers.image.layers import blocks, table


class PixelDecoder(nn.Module):
    """One learned query for each patch stands beside the code vectors in a transformer; what becomes of it is drawn as pixels."""

    def __init__(self, side: int, queries: int, code_dim: int, config: DecoderConfig):
        super().__init__()
        self.grid, self.patch, self.queries = side // config.patch, config.patch, queries
        self.codes = nn.Linear(code_dim, config.width)
        self.code_positions = table(queries, config.width)
        self.patches = table(self.grid**2, config.width)
        self.blocks = blocks(config.depth, config.width, config.heads)
        self.pixels = nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, 3 * config.patch**2))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Pixels [B, 3, side, side], −1 … 1 where training went well, of `vectors` [B, queries, code_dim]."""
        x = torch.cat([self.codes(vectors) + self.code_positions, self.patches.expand(len(vectors), -1, -1)], dim=1)
        for block in self.blocks:
            x = block(x)
        patches = self.pixels(x[:, self.queries :]).unflatten(-1, (3, self.patch, self.patch)).unflatten(1, (self.grid, self.grid))
        return patches.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
