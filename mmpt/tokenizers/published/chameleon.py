"""The image tokenizer of Chameleon."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mmpt.tokenizers.figures import ImageFigures
from mmpt.tokenizers.published._settings import PartOfModel, sub_config

if TYPE_CHECKING:
    from mmpt.tokenizers.published._chameleon import ChameleonCodec


class Chameleon(PartOfModel):
    """Chameleon's image tokenizer (Chameleon Team 2024, arXiv:2405.09818): a VQGAN with 8,192 codes, 1,024 of them for 512 × 512
    pixels. By transformers' `ChameleonVQVAE`, which encodes and has no decoder: pictures can be read, not drawn."""

    models: ClassVar[tuple[str, ...]] = ("chameleon", "chameleon_vqgan")

    model: str = "facebook/chameleon-7b"
    """A folder or Hugging Face name: where the weights are read, once, by `tokenizers/import.py`."""

    def figures(self, config: dict[str, Any]) -> ImageFigures:
        known = sub_config(config, "vq_config")
        side = known.get("resolution", 512)
        rows = side // 2 ** (len(known.get("channel_multiplier", [1, 1, 2, 2, 4])) - 1)
        return ImageFigures(known.get("num_embeddings", 8192), rows**2, side)

    def load(self, folder: Path) -> "ChameleonCodec":
        from mmpt.tokenizers.published._chameleon import ChameleonCodec

        return ChameleonCodec(self, folder)
