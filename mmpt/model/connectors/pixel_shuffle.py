from typing import TYPE_CHECKING, ClassVar

import pydantic

from mmpt.model.connectors import Connector

if TYPE_CHECKING:
    from torch import nn


class PixelShuffle(Connector):
    """Squares of neighbouring patches joined, then an MLP (InternVL 1.5, Chen et al. 2024, arXiv:2404.16821)."""

    carries: ClassVar[tuple[str, ...]] = ("NVLM 1.0",)

    factor: int = pydantic.Field(default=2, ge=1)
    """Side of the squares that are joined, in patches: there are factor² times fewer rows than features."""

    def build(self, feature_width: int, width: int) -> "nn.Module":
        from mmpt.model.connectors._pixel_shuffle import Joined

        return Joined(self.factor, feature_width, width)

    def count(self, features: int) -> int:
        return (grid_side(features, self.factor) // self.factor) ** 2

    @property
    def fewest(self) -> int:
        return self.factor**2


def grid_side(features: int, factor: int) -> int:
    """Side of a square of so many features. Raises `ValueError` where they are no square that `factor` divides."""
    side = round(features**0.5)
    if side * side != features or side % factor:
        raise ValueError(f"pixel_shuffle joins squares of {factor} x {factor}: {features} features are no such grid")
    return side
