"""A published tower of timm."""

from typing import TYPE_CHECKING, ClassVar

from mmpt.tokenizers.image.towers import Tower

if TYPE_CHECKING:
    from mmpt.tokenizers.image.towers._timm import TimmTower


class Timm(Tower):
    """A frozen vision tower of timm by its name (Wightman 2019, github.com/huggingface/pytorch-image-models). Where the image's
    side is not the model's, positions are resampled."""

    frozen: ClassVar[bool] = True

    model: str
    """Its name in timm, such as `vit_so400m_patch14_siglip_224`."""
    pretrained: bool = True
    """With the weights that timm publishes of it, read where training starts; else with random ones, which never learn."""
    patches_only: bool = False
    """A class token and registers in front of the patches are no features."""

    def build(self, side: int, pretrained: bool = True) -> "TimmTower":
        from mmpt.tokenizers.image.towers._timm import TimmTower

        return TimmTower(side, self, pretrained)
