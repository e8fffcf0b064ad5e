"""A Whisper checkpoint, cut for the quantiser."""

import math
from typing import TYPE_CHECKING, Any, Literal

import pydantic

from mmpt.tokenizers.speech.encoders import Encoder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from mmpt.tokenizers.speech.config import SpeechConfig
    from mmpt.tokenizers.speech.encoders._whisper import WhisperSpeechEncoder
    from mmpt.tokenizers.speech.recognizer import EncoderModule, Recognizer, TextDecoder


class Whisper(Encoder):
    """Encoder and text decoder of a Whisper checkpoint (Radford et al. 2022, arXiv:2212.04356), pooling and quantiser after a
    layer of its encoder, as GLM-4-Voice's tokenizer (Zeng et al. 2024, arXiv:2412.02612, section 3.1).

    Audio is taken in windows, since Whisper knows positions in a window alone. `fixed`, what makes the codes stays as it is,
    and the layers behind them learn to read from them what Whisper reads without.
    """

    checkpoint: str
    """A folder or Hugging Face name, read where training starts."""
    layer: int = pydantic.Field(ge=1)
    """The layer of its encoder after which states are pooled and quantised, counted from 1; after the last, its norm too comes
    before the quantiser."""
    fixed: bool = False
    """Of the checkpoint the layers behind the quantiser and the text decoder alone learn, from what the whole reads without one;
    what is heard of an utterance is made once, the sound not varied. Codes begin as those of k-means over it, and with a
    quantiser whose entries learn they and the projection to it do as well."""
    restore: int = pydantic.Field(default=0, ge=0)
    """Layers between the codes and those of the checkpoint that learn to restore, from a code and those around it, what stood
    before the quantiser; with them the text decoder stays as it is. For a `fixed` one that sees its window whole."""
    around: int = pydantic.Field(default=0, ge=0)
    """Codes to either side from which, by least squares, a `fixed` one begins to tell what stood before the quantiser; 0: from
    the code alone, as the quantiser's vectors say it. What is restored goes on from there."""
    noise: float = pydantic.Field(default=0.0, ge=0)
    """Deviations of noise on what is quantised, in the training of a `fixed` one."""
    pooling: Literal["avg", "max"] = "avg"
    """What is taken of the states of a code."""
    block: int | None = pydantic.Field(default=None, ge=1)
    """With it, codes are final in blocks of that many: causal convolutions, and attention sees its own block and what lies
    before. Without, a window is seen whole."""
    silence: float | None = pydantic.Field(default=None, ge=0)
    """Seconds of silence that are heard behind a clip, as far as the window has room; null: to the window's end, which is how
    Whisper has learned to hear (30 s) and what it reads text by untrained. With `block` there is none."""
    silence_read: bool = False
    """Whether layers and text decoder behind the quantiser are given silence behind the codes of a clip, to the window's end: at
    each place what a `fixed` one heard there behind other clips, on average. Whisper has learned that a text ends there; without,
    what learns behind the codes must learn it."""
    overlap: int = pydantic.Field(default=25, ge=0)
    """Codes by which windows overlap on each side that is seen."""
    taught: Literal["text", "states"] = "text"
    """What a `fixed` one learns behind the codes: to read what Whisper reads, and as much of its states as `distance_weight` asks
    for; or its states alone, at a third of the cost."""
    prompt: tuple[int | str, ...] = ()
    """Tokens (or ids) of the text tokenizer that open every transcript and are not learned, such as those of a language and of a
    task; by default the checkpoint's first token alone."""
    architecture: dict[str, Any] = {}
    """What the checkpoint says of its shape; filled in where training starts."""
    never: tuple[int, ...] = ()
    """Ids that are never read (`suppress_tokens` of the checkpoint); filled in there too."""
    never_first: tuple[int, ...] = ()
    """Ids with which no text begins (`begin_suppress_tokens`); filled in there too."""

    @pydantic.model_validator(mode="after")
    def _restored_where_heard_whole(self) -> "Whisper":
        for key in ("restore", "around"):
            if getattr(self, key) and (self.block is not None or not self.fixed):
                raise ValueError(f"{key}: codes are restored from those around, expected fixed: true and no block")
        if self.silence_read and (self.block is not None or not self.fixed):
            raise ValueError("silence_read: silence as it was heard once, expected fixed: true and no block")
        if self.taught == "states" and not self.fixed:
            raise ValueError("taught: states that are heard once, expected fixed: true")
        if self.noise and not self.fixed:
            raise ValueError("noise: the sound is varied where it is heard anew each time, expected fixed: true")
        return self

    @property
    def heard_once(self) -> bool:
        return self.fixed

    @property
    def learns_text(self) -> bool:
        return self.taught == "text"

    @property
    def whole(self) -> bool:
        """Whether the quantiser comes after all layers of the checkpoint's encoder."""
        return self.layer == self.architecture.get("encoder_layers")

    def frames_heard(self, codes: "torch.Tensor", pool: int, window: int) -> "torch.Tensor":
        """How many frames of 50 Hz are heard of clips of so many `codes`, silence and all."""
        most = window * pool
        if self.block is not None:
            return codes * pool
        if self.silence is None:
            return codes * 0 + most
        return (codes * pool + math.ceil(50 * self.silence)).clamp_max(most).maximum(codes * pool)

    def features(self, samples: "torch.Tensor", mels: int, frames: int) -> "torch.Tensor":
        from mmpt.tokenizers.speech.features import whisper_log_mel

        return whisper_log_mel(samples, mels, frames)

    def build(self, config: "SpeechConfig") -> "WhisperSpeechEncoder":
        """Of its encoder, the layers up to the quantiser alone."""
        from mmpt.tokenizers.speech.encoders._whisper import WhisperSpeechEncoder, whisper_up_to_the_cut

        return WhisperSpeechEncoder(config, self, whisper_up_to_the_cut(self))

    def build_recognizer(self, config: "SpeechConfig", text_size: int) -> "Recognizer":
        """The text decoder's vocabulary is the checkpoint's, which `settled` has checked against the text tokenizer."""
        from mmpt.tokenizers.speech.encoders._whisper import WhisperSpeechEncoder, whisper_model
        from mmpt.tokenizers.speech.encoders._whisper_reader import WhisperReader
        from mmpt.tokenizers.speech.recognizer import Recognizer

        model = whisper_model(self)
        return Recognizer(WhisperSpeechEncoder(config, self, model.model.encoder), WhisperReader(self, model))

    def settled(self, config: "SpeechConfig", text: "PreTrainedTokenizerBase") -> "SpeechConfig":
        from mmpt.tokenizers.speech.encoders._whisper_checkpoint import with_architecture

        return with_architecture(config, self, text)

    def take_weights(self, encoder: "EncoderModule", reader: "TextDecoder") -> None:
        from mmpt.tokenizers.speech.encoders._whisper_checkpoint import take_weights

        take_weights(encoder, reader, self)
