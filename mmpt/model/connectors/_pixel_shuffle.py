from torch import Tensor, nn
from torch.nn import functional as F

from mmpt.model.connectors._mlp import two_layers
from mmpt.model.connectors.pixel_shuffle import grid_side


class Joined(nn.Module):
    """Features of a square grid, row by row; `factor` × `factor` neighbours become one of factor² times the width."""

    def __init__(self, factor: int, feature_width: int, width: int):
        super().__init__()
        self.factor = factor
        self.norm = nn.LayerNorm(feature_width * factor**2)
        self.mlp = two_layers(feature_width * factor**2, width)

    def forward(self, features: Tensor) -> Tensor:
        side = grid_side(features.shape[1], self.factor)
        # pixel_unshuffle wants channels before the grid, and its squares come out as channels of a smaller grid.
        grid = features.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        return self.mlp(self.norm(F.pixel_unshuffle(grid, self.factor).flatten(2).transpose(1, 2)))
