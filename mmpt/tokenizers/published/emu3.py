"""The image tokenizer of Emu3."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pydantic

from mmpt.errors import ConfigError
from mmpt.tokenizers.figures import ImageFigures
from mmpt.tokenizers.published._settings import PartOfModel, sub_config

if TYPE_CHECKING:
    from mmpt.tokenizers.published._emu3 import Emu3Codec


class Emu3(PartOfModel):
    """Emu3's vision tokenizer (Wang et al. 2024, arXiv:2409.18869): a VQ model with 32,768 codes, one for 8 × 8 pixels, any
    size. By transformers' `Emu3VQVAE`."""

    models: ClassVar[tuple[str, ...]] = ("emu3", "emu3_vqgan")

    model: str = "Emu3-community/Emu3-Chat-hf"
    """A folder or Hugging Face name: where the weights are read, once, by `tokenizers/import.py`."""
    side: int = pydantic.Field(default=512, ge=8)
    """Pictures are squashed to this many pixels square; a code for each 8 × 8 of them."""

    def figures(self, config: dict[str, Any]) -> ImageFigures:
        known = sub_config(config, "vq_config")
        factor = 2 ** (len(known.get("channel_multiplier", [1, 2, 2, 4])) - 1)
        if self.side % factor:
            raise ConfigError(f"published.side is {self.side}, expected a multiple of {factor}")
        return ImageFigures(known.get("codebook_size", 32768), (self.side // factor) ** 2, self.side)

    def load(self, folder: Path) -> "Emu3Codec":
        from mmpt.tokenizers.published._emu3 import Emu3Codec

        return Emu3Codec(self, folder)
