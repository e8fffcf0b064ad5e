"""From the vectors of the codes back to pixels."""

import torch
from torch import nn

from mmpt.tokenizers.image.config import DecoderConfig
from mmpt.tokenizers.image.layers import blocks, table


class PixelDecoder(nn.Module):
    """All code vectors, joined, give the first state of every patch by one linear map (as in SEED's released de-tokenizer, which
    joins the codes for its one image embedding); blocks, and convolutions that double the size, refine it to pixels."""

    def __init__(self, side: int, queries: int, code_dim: int, config: DecoderConfig):
        super().__init__()
        self.grid, self.width = side // config.patch, config.width
        self.first = nn.Linear(queries * code_dim, self.grid**2 * config.width)
        self.positions = table(self.grid**2, config.width)
        self.blocks = blocks(config.depth, config.width, config.heads)
        doublings = config.patch.bit_length() - 1
        channels = [config.width, *(max(32, config.width >> (i + 1)) for i in range(doublings - 1)), 3]
        layers: list[nn.Module] = []
        for before, after in zip(channels[:-1], channels[1:], strict=True):
            layers += [nn.GELU(), nn.Conv2d(before, 4 * after, 3, 1, 1), nn.PixelShuffle(2)]
        self.upsampling = nn.Sequential(*layers)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Pixels [B, 3, side, side], −1 … 1 where training went well, of `vectors` [B, queries, code_dim]."""
        x = self.first(vectors.flatten(1)).unflatten(1, (self.grid**2, self.width)) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.upsampling(x.transpose(1, 2).unflatten(2, (self.grid, self.grid)))
