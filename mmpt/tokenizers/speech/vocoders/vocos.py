"""A published vocoder of 24 kHz."""

from typing import TYPE_CHECKING, Any, ClassVar

import pydantic

from mmpt.tokenizers.speech.vocoders import Vocoder

if TYPE_CHECKING:
    from mmpt.tokenizers.speech.vocoders._vocos import VocosVocoder


class Vocos(Vocoder):
    """Vocos (Siuzdak 2023, arXiv:2306.00814), such as `charactr/vocos-mel-24khz`, by the path of a folder with its
    config.yaml and its weights as model.safetensors. Nothing is above 8 kHz, since our log-mels end there."""

    architecture_name: ClassVar[str] = "VocosBackbone"

    mels: int
    """Bands of the log-mel that is spoken."""
    rate: int = 24_000
    """Hz of its sound."""
    bands_of_its_own: int = pydantic.Field(default=100, ge=1)
    """Bands of the log-mel that it was trained on."""
    window: int = pydantic.Field(default=1024, ge=2)
    """Samples of its Fourier transforms."""
    hop: int = pydantic.Field(default=256, ge=1)
    """Samples from one of them to the next."""
    dim: int = pydantic.Field(default=512, ge=1)
    """Values of a state."""
    inner: int = pydantic.Field(default=1536, ge=1)
    """Values inside a block."""
    layers: int = pydantic.Field(default=8, ge=1)
    """Blocks."""

    @property
    def bands(self) -> int:
        return self.mels

    @property
    def sound_rate(self) -> int:
        return self.rate

    def build(self) -> "VocosVocoder":
        from mmpt.tokenizers.speech.vocoders._vocos import VocosVocoder

        return VocosVocoder(self)

    @classmethod
    def from_published(cls, name: str, content: dict[str, Any], mels: int) -> "VocosVocoder":
        from mmpt.tokenizers.speech.vocoders._vocos import published

        return published(name, content, mels)
