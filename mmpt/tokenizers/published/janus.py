"""The image tokenizer of Janus."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mmpt.tokenizers.figures import ImageFigures
from mmpt.tokenizers.published._settings import PartOfModel, sub_config

if TYPE_CHECKING:
    from mmpt.tokenizers.published._janus import JanusCodec


class Janus(PartOfModel):
    """The tokenizer by which Janus and Janus-Pro draw (Wu et al. 2024, arXiv:2410.13848): LlamaGen's VQ model with 16,384 codes,
    576 of them for 384 × 384 pixels. By transformers' `JanusVQVAE`."""

    models: ClassVar[tuple[str, ...]] = ("janus", "janus_vqgan")
    released: ClassVar[dict[str, Any]] = {"vq_config": {"num_patches": 24, "num_embeddings": 16384}}

    model: str = "deepseek-community/Janus-Pro-1B"
    """A folder or Hugging Face name: where the weights are read, once, by `tokenizers/import.py`."""

    def figures(self, config: dict[str, Any]) -> ImageFigures:
        known = sub_config(config, "vq_config")
        rows = patches(config)
        side = rows * 2 ** (len(known.get("channel_multiplier", [1, 1, 2, 2, 4])) - 1)
        return ImageFigures(known.get("num_embeddings", 16384), rows**2, side)

    def load(self, folder: Path) -> "JanusCodec":
        from mmpt.tokenizers.published._janus import JanusCodec

        return JanusCodec(self, folder)


def patches(config: dict[str, Any]) -> int:
    """Codes in a row; inside of a whole model they follow from its vision tower, as transformers has it."""
    vision = config.get("vision_config")
    if vision is not None:
        return vision.get("image_size", 384) // vision.get("patch_size", 16)
    return sub_config(config, "vq_config").get("num_patches", 32)
