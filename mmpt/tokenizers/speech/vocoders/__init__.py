"""Vocoders: log-mels to waveforms.

vocoder: {kind: istft, dim: 192, blocks: 6}
vocoder: griffin_lim
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from mmpt.methods import Method
from mmpt.modality import SAMPLE_RATE

if TYPE_CHECKING:
    from mmpt.tokenizers.speech.vocoder import VocoderModule


class Vocoder(Method):
    """What makes waveforms of log-mels. `build` gives the module that does it."""

    key: ClassVar[str] = "vocoder"
    default_kind: ClassVar[str] = "istft"
    architecture_name: ClassVar[str] = ""
    """The class of transformers that a published checkpoint of this kind names; empty where there is none."""

    @property
    def bands(self) -> int | None:
        """Mel bands of what it speaks; None: any number."""
        return None

    @property
    def sound_rate(self) -> int:
        """Hz of what it gives; the log-mel that it speaks is of 16 kHz whatever that is."""
        return SAMPLE_RATE

    @abstractmethod
    def build(self) -> "VocoderModule":
        """The module; its weights, if it has any, at random."""

    @classmethod
    def from_published(cls, name: str, content: dict[str, Any], mels: int) -> "VocoderModule":
        """The published one of a folder or Hugging Face `name`, whose config.json is `content`, in eval mode, for log-mels of
        `mels` bands. Raises `ConfigError` naming all that does not fit, `CheckpointError` where weights are missing."""
        raise NotImplementedError(f"{cls.kind} has no published checkpoints")
