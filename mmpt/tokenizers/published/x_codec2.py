"""X-Codec2."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mmpt.modality import Medium
from mmpt.tokenizers.figures import SpeechFigures
from mmpt.tokenizers.published import Published

if TYPE_CHECKING:
    from mmpt.tokenizers.published._x_codec2 import XCodec2Codec


class XCodec2(Published):
    """X-Codec2 (Ye et al. 2025, arXiv:2502.04128): one codebook of 65,536 by finite scalar quantisation at 50 Hz, made of
    w2v-BERT's states and an acoustic encoder's. By transformers' `Xcodec2Model`, which a transformers of 2026 has."""

    tokenizes: ClassVar[Medium] = "speech"
    models: ClassVar[tuple[str, ...]] = ("xcodec2",)

    model: str = "HKUSTAudio/xcodec2-hf"
    """A folder or Hugging Face name: where the weights are read, once, by `tokenizers/import.py`."""

    def figures(self, config: dict[str, Any]) -> SpeechFigures:
        rate = config.get("sampling_rate", 16000)
        levels = config.get("quantization_levels", [4] * 8)
        hop = math.prod(config.get("downsampling_ratios", [2, 2, 4, 4, 5]))
        return SpeechFigures(math.prod(levels), rate / hop, rate)

    def load(self, folder: Path) -> "XCodec2Codec":
        from mmpt.tokenizers.published._x_codec2 import XCodec2Codec

        return XCodec2Codec(self, folder)
