"""A second set of states, for the look alone."""

import torch
from torch import nn

from mmpt.layers.qformer import Qformer
from mmpt.tokenizers.image.config import ImageTokenizerConfig


class Detail(nn.Module):
    """A tower, a Q-Former and a map of their own, as large as those of the first states. `begun`: whether they have begun to
    learn, from a copy of those; before that the first states are all there is."""

    begun: torch.Tensor

    def __init__(self, config: ImageTokenizerConfig, feature_width: int):
        super().__init__()
        asked = config.qformer
        # One that is published and at rest sees the same either way.
        self.tower = None if config.tower.frozen else config.tower.build(config.side, pretrained=False)
        shape = (asked.queries, asked.width, asked.depth, asked.heads)
        self.qformer = Qformer(*shape, feature_width, asked.sharpness, asked.causal)
        self.down = down(asked.width, config.quantizer.dim)
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def begin(self, tower: nn.Module, qformer: Qformer, down: nn.Module) -> None:
        """From what makes the first states; once."""
        if self.begun:
            return
        if self.tower is not None:
            self.tower.load_state_dict(tower.state_dict())
        self.qformer.load_state_dict(qformer.state_dict())
        self.down.load_state_dict(down.state_dict())
        self.begun.fill_(True)

    def forward(self, pixels: torch.Tensor, tower: nn.Module) -> torch.Tensor:
        """float32 [B, queries, dim] of pixels [B, 3, side, side]; `tower`: that of the first states."""
        return self.down(self.qformer((tower if self.tower is None else self.tower)(pixels))).float()


def down(width: int, dim: int) -> nn.Sequential:
    """From a state of a Q-Former to what is quantised."""
    return nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, dim))
