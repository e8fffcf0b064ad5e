"""The Descript Audio Codec."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mmpt.tokenizers.published._settings import Codec

if TYPE_CHECKING:
    from mmpt.tokenizers.figures import SpeechFigures
    from mmpt.tokenizers.published._dac import DacCodec


class Dac(Codec):
    """The Descript Audio Codec (Kumar et al. 2023, arXiv:2306.06546): residual codebooks of 1,024 with factorised, normalised
    codes; convolutions alone, which see both sides. By transformers' `DacModel`."""

    models: ClassVar[tuple[str, ...]] = ("dac",)
    released: ClassVar[dict[str, Any]] = {
        "sampling_rate": 16000,
        "n_codebooks": 12,
        "downsampling_ratios": [2, 4, 5, 8],
        "codebook_size": 1024,
    }

    model: str = "descript/dac_16khz"
    """A folder or Hugging Face name: where the weights are read, once, by `tokenizers/import.py`."""

    def figures(self, config: dict[str, Any]) -> "SpeechFigures":
        from transformers import DacConfig

        known = DacConfig.from_dict(config)
        rate = known.sampling_rate / known.hop_length
        return self.figures_of(known.n_codebooks, known.codebook_size, rate, known.sampling_rate)

    def load(self, folder: Path) -> "DacCodec":
        from mmpt.tokenizers.published._dac import DacCodec

        return DacCodec(self, folder)
