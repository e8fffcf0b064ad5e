"""Features of the tokenizer's own tower."""

from typing import TYPE_CHECKING

from mmpt.tokenizers.image.perceptual import Perceptual

if TYPE_CHECKING:
    from torch import nn

    from mmpt.tokenizers.image.tower import TowerModule


class Tower(Perceptual):
    """Features of the tokenizer's own tower at several depths (Johnson et al. 2016, arXiv:1603.08155), each position's made of
    one length as in LPIPS (Zhang et al. 2018, arXiv:1801.03924); for where no classifier's weights can be had, or the tower knows
    more than one."""

    layers: tuple[str, ...] = ()
    """Modules of the tower by name, as in a checkpoint, whose outputs are compared; by default the activations of its stem and,
    evenly through its depth, four of its blocks."""

    def build(self, tower: "TowerModule") -> "nn.Module":
        from mmpt.tokenizers.image.perceptual._tower import TowerDistance

        return TowerDistance(tower, self.layers)
