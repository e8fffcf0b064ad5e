from typing import cast

from torch import Tensor, nn

from mmpt.layers.attention import Block, blocks
from mmpt.model.connectors.tome_former import TomeFormer
from mmpt.model.reducers._merge import merge_round


class Merging(nn.Module):
    """[B, N, `feature_width`] → [B, rows, `width`]: in each block attention, merging, an MLP."""

    def __init__(self, settings: TomeFormer, feature_width: int, inner: int, width: int):
        super().__init__()
        self.settings = settings
        self.enter = nn.Linear(feature_width, inner) if inner != feature_width else nn.Identity()
        self.blocks = blocks(settings.depth, inner, settings.heads)
        self.out = nn.Sequential(nn.LayerNorm(inner), nn.Linear(inner, width))

    def forward(self, features: Tensor) -> Tensor:
        return self.out(self.merged(self.enter(features))[0])

    def merged(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """([B, rows, inner], how many features each stands for, [B, rows])."""
        sizes = x.new_ones(x.shape[:2])
        for block, count in zip(self.blocks, self.settings.merges(x.shape[1]), strict=True):
            block = cast(Block, block)
            attention, normed = block.attention, block.norm(x)
            keys = attention.key_value(normed).chunk(2, dim=-1)[0].unflatten(2, (attention.heads, -1)).mean(dim=2)
            x = x + attention(normed, normed, sizes.log()[:, None, None, :])
            if count:
                x, sizes = merge_round(x, sizes, count, keys)
            x = x + block.mlp(x)
        return x, sizes
