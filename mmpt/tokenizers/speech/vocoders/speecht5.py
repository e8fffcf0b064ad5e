"""A published vocoder."""

from typing import TYPE_CHECKING, Any, ClassVar

from mmpt.tokenizers.speech.vocoders import Vocoder

if TYPE_CHECKING:
    from mmpt.tokenizers.speech.vocoders._speecht5 import SpeechT5Vocoder


class SpeechT5(Vocoder):
    """SpeechT5's HiFi-GAN (Ao et al. 2022, arXiv:2110.07205; Kong et al. 2020, arXiv:2010.05646), such as
    `microsoft/speecht5_hifigan`."""

    architecture_name: ClassVar[str] = "SpeechT5HifiGan"

    mels: int
    """Bands of the log-mel that is spoken."""
    architecture: dict[str, Any]
    """What the checkpoint says of its shape."""

    @property
    def bands(self) -> int:
        return self.mels

    def build(self) -> "SpeechT5Vocoder":
        from mmpt.tokenizers.speech.vocoders._speecht5 import SpeechT5Vocoder

        return SpeechT5Vocoder(self)

    @classmethod
    def from_published(cls, name: str, content: dict[str, Any], mels: int) -> "SpeechT5Vocoder":
        from mmpt.tokenizers.speech.vocoders._speecht5 import published

        return published(name, content, mels)
