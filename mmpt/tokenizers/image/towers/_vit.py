"""The module of `Vit`."""

import torch
from torch import nn

from mmpt.layers.attention import blocks
from mmpt.layers.positions import table
from mmpt.tokenizers.image.tower import TowerModule
from mmpt.tokenizers.image.towers.vit import Vit


class VisionTransformer(TowerModule):
    """Features [B, patches, width]: convolutions that halve the side, then transformer blocks."""

    def __init__(self, side: int, config: Vit):
        super().__init__()
        self.width = config.width
        halvings = config.patch.bit_length() - 1
        # Channels double as the side halves, up to the width; 32 at least, or the first layers see too little.
        channels = [3, *(max(32, config.width >> (halvings - 1 - i)) for i in range(halvings - 1)), config.width]
        layers: list[nn.Module] = []
        for before, after in zip(channels[:-1], channels[1:], strict=True):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.GELU()]
        self.stem = nn.Sequential(*layers[:-1])
        self.positions = table((side // config.patch) ** 2, config.width)
        self.blocks = blocks(config.depth, config.width, config.heads)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.stem(pixels).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x)
