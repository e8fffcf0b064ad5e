"""Perceptual losses: how far two pictures are from each other as a network sees them.

perceptual: {kind: lpips, net: vgg}
perceptual: {kind: tower, weight: 2}
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import pydantic

from mmpt.methods import Method

if TYPE_CHECKING:
    from torch import nn

    from mmpt.tokenizers.image.tower import TowerModule


class Perceptual(Method):
    """What compares a picture that was drawn with the original. `build` gives the module that does."""

    key: ClassVar[str] = "perceptual"

    weight: float = pydantic.Field(default=1.0, ge=0)
    """Weight beside the stage's other terms."""

    @abstractmethod
    def build(self, tower: "TowerModule") -> "nn.Module":
        """A module (drawn, pixels), both [B, 3, side, side] in −1 … 1 → distances [B], of which nothing learns; `tower`: that of
        the tokenizer. Raises `ConfigError` where it cannot be loaded."""
