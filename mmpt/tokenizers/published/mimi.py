"""Mimi, the codec of Moshi."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mmpt.tokenizers.published._settings import Codec

if TYPE_CHECKING:
    from mmpt.tokenizers.figures import SpeechFigures
    from mmpt.tokenizers.published._mimi import MimiCodec


class Mimi(Codec):
    """Mimi, the causal codec of Moshi (Défossez et al. 2024, arXiv:2410.00037): 24 kHz, 12.5 frames a second, up to 32 codebooks
    of 2,048, of which the first is distilled from WavLM and Moshi keeps 8. By transformers' `MimiModel`; sound is exact in a
    stream."""

    models: ClassVar[tuple[str, ...]] = ("mimi",)

    model: str = "kyutai/mimi"
    """A folder or Hugging Face name: where the weights are read, once, by `tokenizers/import.py`."""
    codebooks: int | None = 8
    """How many of its codebooks are kept, the first ones; null: all."""

    def figures(self, config: dict[str, Any]) -> "SpeechFigures":
        from transformers import MimiConfig

        known = MimiConfig.from_dict(config)
        return self.figures_of(known.num_quantizers, known.codebook_size, known.frame_rate, known.sampling_rate)

    def load(self, folder: Path) -> "MimiCodec":
        from mmpt.tokenizers.published._mimi import MimiCodec

        return MimiCodec(self, folder)
