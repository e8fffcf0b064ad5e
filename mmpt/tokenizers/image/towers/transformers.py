"""A published tower of transformers."""

from typing import TYPE_CHECKING, ClassVar

from mmpt.tokenizers.image.towers import Tower

if TYPE_CHECKING:
    from mmpt.tokenizers.image.towers._transformers import TransformersTower


class Transformers(Tower):
    """A frozen vision transformer of transformers (Wolf et al. 2020, arXiv:1910.03771): CLIP's, SigLIP's, DINOv2, ViT. At a side
    that is not the model's its positions are interpolated, as the library does it."""

    frozen: ClassVar[bool] = True

    model: str
    """A folder or Hugging Face name, such as `facebook/dinov2-base` or `openai/clip-vit-large-patch14-336`."""
    pretrained: bool = True
    """With its weights; else with random ones."""
    layer: int | None = None
    """Which of its hidden states are the features, counted as in the library: 0 is before the first layer, −2 before the last
    (LLaVA, Liu et al. 2023, arXiv:2304.08485); null: what the model gives in the end."""
    patches_only: bool = True
    """The class token and registers are no features."""

    def build(self, side: int, pretrained: bool = True) -> "TransformersTower":
        from mmpt.tokenizers.image.towers._transformers import TransformersTower

        return TransformersTower(side, self, pretrained)
