"""Features of a published classifier, weighted as people judge."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mmpt.tokenizers.image.perceptual import Perceptual

if TYPE_CHECKING:
    from torch import nn

    from mmpt.tokenizers.image.tower import TowerModule


class Lpips(Perceptual):
    """LPIPS (Zhang et al. 2018, arXiv:1801.03924) as its authors' package computes it, with its linear weights over torchvision's
    classifier of ImageNet."""

    net: Literal["alex", "vgg", "squeeze"] = "vgg"
    """The classifier; `vgg` is what tokenizers are trained with, `alex` what they are compared by."""
    weights: Path | None = None
    """A file of torchvision's weights of it, as safetensors; by default torchvision downloads them."""

    def build(self, tower: "TowerModule") -> "nn.Module":
        from mmpt.tokenizers.image.perceptual._lpips import load_lpips

        return load_lpips(self.net, self.weights)
