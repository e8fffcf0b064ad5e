"""A small tower that learns along."""

from typing import TYPE_CHECKING

import pydantic

from mmpt.tokenizers.image.towers import Tower

if TYPE_CHECKING:
    from mmpt.tokenizers.image.towers._vit import VisionTransformer


class Vit(Tower):
    """A vision transformer trained from scratch (Dosovitskiy et al. 2020, arXiv:2010.11929), stride-2 convolutions in place of
    its one large patch projection (Xiao et al. 2021, arXiv:2106.14881, "Early convolutions help transformers see better")."""

    patch: int
    """Side in pixels (a power of two) of what becomes one feature."""
    width: int
    """Values of a feature."""
    depth: int = pydantic.Field(ge=0)
    """Transformer blocks behind the convolutions; 0: convolutions alone."""
    heads: int
    """Of each block's attention; a divisor of `width`."""

    def problems(self, side: int) -> list[str]:
        found = [] if self.width % self.heads == 0 else [f"width {self.width} is no multiple of tower.heads {self.heads}"]
        if self.patch < 1 or self.patch & (self.patch - 1) or side % self.patch:
            found.append(f"patch {self.patch} is no power of two that divides side {side}")
        return [f"tower.{problem}" for problem in found]

    def build(self, side: int, pretrained: bool = True) -> "VisionTransformer":
        from mmpt.tokenizers.image.towers._vit import VisionTransformer

        return VisionTransformer(side, self)
