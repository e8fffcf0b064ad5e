"""The speech tokenizer of GLM-4-Voice."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mmpt.errors import ConfigError
from mmpt.modality import SAMPLE_RATE, Medium
from mmpt.tokenizers.figures import SpeechFigures
from mmpt.tokenizers.published import Published

if TYPE_CHECKING:
    from mmpt.tokenizers.published._glm4_voice import Glm4VoiceCodec

_FRAMES = 50  # states of Whisper's encoder in a second


class Glm4Voice(Published):
    """GLM-4-Voice's speech tokenizer (Zeng et al. 2024, arXiv:2412.02612, section 3.1; THUDM/GLM-4-Voice): the first 16 layers of
    whisper-large-v3's encoder, pooled to 12.5 Hz, with 16,384 codes learned by recognition. It encodes; its sound is made by
    a flow decoder and a vocoder of its own, which are not read."""

    carries: ClassVar[tuple[str, ...]] = ("Scaling Speech-Text Pre-training (synthetic interleaved; GLM-4-Voice base)",)
    tokenizes: ClassVar[Medium] = "speech"
    models: ClassVar[tuple[str, ...]] = ("whisper",)
    released: ClassVar[dict[str, Any]] = {
        "quantize_vocab_size": 16384,
        "pooling_kernel_size": 4,
        "pooling_position": 16,
        "quantize_position": 16,
        "encoder_causal_convolution": True,
        "quantize_causal_block_size": 200,
    }

    model: str = "THUDM/glm-4-voice-tokenizer"
    """A folder or Hugging Face name: where the weights are read, once, by `tokenizers/import.py`."""

    @classmethod
    def is_of(cls, config: dict[str, Any]) -> bool:
        return config.get("quantize_vocab_size") is not None

    def figures(self, config: dict[str, Any]) -> SpeechFigures:
        pool = config.get("pooling_kernel_size") or 1
        known = {
            "pooling_position": (config.get("quantize_position", 16) if pool > 1 else None, config.get("pooling_position")),
            "encoder_causal_attention": (False, config.get("encoder_causal_attention", False)),
            "quantize_causal_encoder": (False, config.get("quantize_causal_encoder", False)),
        }
        for name, (expected, found) in known.items():
            if expected is not None and found != expected:
                raise ConfigError(f"config.json: {name} is {found}, expected {expected}, as the released tokenizer has it")
        return SpeechFigures(config["quantize_vocab_size"], _FRAMES / pool, SAMPLE_RATE)

    def load(self, folder: Path) -> "Glm4VoiceCodec":
        from mmpt.tokenizers.published._glm4_voice import Glm4VoiceCodec

        return Glm4VoiceCodec(self, folder)
