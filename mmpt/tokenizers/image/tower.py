"""What every vision tower gives."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from mmpt.layers.resting import Resting


class TowerModule(nn.Module):
    """The module of a `Tower`. `width`: values of a feature."""

    width: int

    if TYPE_CHECKING:

        def __call__(self, pixels: torch.Tensor) -> torch.Tensor: ...

    @abstractmethod
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features [B, N, width] of pixels [B, 3, side, side] in −1 … 1."""


class FrozenTower(Resting, TowerModule):
    """A published model, at rest unless it is woken. It takes pixels in −1 … 1; the model's own mean and deviation are applied
    here."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def normalized(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels [B, 3, side, side] in −1 … 1 as the model was trained on them."""
        return ((pixels + 1) / 2 - self.mean) / self.std

    @torch.no_grad()
    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """One vector [B, D] of each picture, of any length: here the mean of its features."""
        return self(pixels).mean(dim=1)

    @abstractmethod
    def layer_states(self, pixels: torch.Tensor, layers: list[int]) -> list[torch.Tensor]:
        """One state [B, width] of each image after each of `layers` (rising, counted from 0): the class token's, or the mean of
        all patches where there is none. Raises what the library raises where there is no such layer."""
