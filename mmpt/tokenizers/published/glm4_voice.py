"""The speech tokenizer of GLM-4-Voice."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mmpt.errors import CheckpointError, ConfigError
from mmpt.modality import SAMPLE_RATE, Medium
from mmpt.storage import read_json, write_json
from mmpt.tokenizers.figures import SpeechFigures
from mmpt.tokenizers.published import Published

if TYPE_CHECKING:
    from mmpt.tokenizers.published._glm4_voice import Glm4VoiceCodec

_DECODER = ("config.yaml", "flow.pt", "hift.pt")
_FRAMES = 50  # states of Whisper's encoder in a second


class Glm4Voice(Published):
    """GLM-4-Voice's speech tokenizer (Zeng et al. 2024, arXiv:2412.02612, section 3.1; THUDM/GLM-4-Voice): the first 16 layers of
    whisper-large-v3's encoder, pooled to 12.5 Hz, with 16,384 codes learned by recognition. Sound of 22.05 kHz in one voice by
    its flow decoder and vocoder (section 3.2; THUDM/glm-4-voice-decoder), in the pieces of its demonstration, whole or in a
    stream; without `decoder` it encodes alone."""

    carries: ClassVar[tuple[str, ...]] = ("Scaling Speech-Text Pre-training (synthetic interleaved; GLM-4-Voice base)",)
    tokenizes: ClassVar[Medium] = "speech"
    models: ClassVar[tuple[str, ...]] = ("whisper",)
    beside: ClassVar[tuple[str, ...]] = ("THUDM/glm-4-voice-decoder",)
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
    decoder: str | None = None
    """A folder with the released config.yaml, flow.pt and hift.pt of THUDM/glm-4-voice-decoder, which `tokenizers/import.py`
    reads once; null: codes cannot be spoken."""

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

    def parts(self) -> dict[str, Path]:
        if self.decoder is None:
            return {}
        folder = Path(self.decoder)
        if lost := [name for name in _DECODER if not (folder / name).is_file()]:
            raise CheckpointError(
                f"{folder}: lacks {', '.join(lost)}; download them: hf download {self.beside[0]} --local-dir {folder}"
            )
        return {Path(name).stem: folder / name for name in _DECODER[1:]}

    def take(self, source: Path, target: Path) -> None:
        super().take(source, target)
        if self.decoder is None:
            return
        for part in self.parts():
            if not (source / f"{part}.safetensors").is_file():
                raise CheckpointError(f"{self.decoder}: pickles are read by tokenizers/import.py alone")
        from mmpt.tokenizers.published._flow_config import released_sections
        from mmpt.tokenizers.published._flow_decoder import CONFIG, flow_decoder

        folder = Path(self.decoder)
        write_json(target / CONFIG, released_sections(folder / "config.yaml"))
        flow_decoder(target, self.figures(read_json(source / "config.json", CheckpointError)).codes, folder)
