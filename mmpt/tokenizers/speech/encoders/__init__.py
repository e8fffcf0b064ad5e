"""Speech encoders: log-mels to codes, and on to states that text can be read from.

encoder: {conv_blocks: 5}
encoder: {kind: whisper, checkpoint: openai/whisper-large-v3, layer: 16}
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from mmpt.methods import Method

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from mmpt.tokenizers.speech.config import SpeechConfig
    from mmpt.tokenizers.speech.recognizer import EncoderModule, Recognizer, TextDecoder


class Encoder(Method):
    """What makes codes of speech, and the text decoder that supervises it."""

    key: ClassVar[str] = "encoder"
    default_kind: ClassVar[str] = "small"

    @property
    def heard_once(self) -> bool:
        """Whether what it hears of a sound never changes in training, so that it is made once for each utterance."""
        return False

    @property
    def learns_text(self) -> bool:
        """Whether text is read in training, and what is read learned from."""
        return True

    def features(self, samples: "torch.Tensor", mels: int, frames: int) -> "torch.Tensor":
        """The log-mel [..., frames, mels] that it hears of `samples` [..., any length], on the scale of `log_mel`."""
        from mmpt.tokenizers.speech.features import log_mel

        return log_mel(samples, mels, frames)

    @abstractmethod
    def build(self, config: "SpeechConfig") -> "EncoderModule":
        """The encoder of a tokenizer of `config`, with random weights, for `states` and `quantize` alone: what is only needed to
        read text from the codes may be left out."""

    @abstractmethod
    def build_recognizer(self, config: "SpeechConfig", text_size: int) -> "Recognizer":
        """The whole encoder and a text decoder over a vocabulary of `text_size` ids, with random weights."""

    def settled(self, config: "SpeechConfig", text: "PreTrainedTokenizerBase") -> "SpeechConfig":
        """`config`, whose encoder this is, with what only a checkpoint knows filled in. Raises `ConfigError` naming all that does
        not fit, the text tokenizer included."""
        return config

    def take_weights(self, encoder: "EncoderModule", reader: "TextDecoder") -> None:
        """Start both from the checkpoint, if there is one. Raises `ConfigError` where a weight is missing."""
