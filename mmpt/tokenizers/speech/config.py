"""The shape of a speech tokenizer, and how its training speech is varied."""

from typing import Annotated, Literal

import pydantic

from mmpt.config import Schema
from mmpt.tokenizers.quantizer_config import QuantizerConfig

SAMPLE_RATE = 16_000
HOP = 160  # samples between log-mel frames: 100 Hz
STRIDE = 2  # of the encoder's convolutional stem: 50 Hz states


class AugmentConfig(Schema):
    """How training speech is varied, each value drawn uniformly for each utterance.

    `speed` and `pitch`: largest relative change of tempo and of all frequencies. `gain`: largest change of level in dB.
    `tilt`: largest change of level in dB from the lowest to the highest band, another microphone or mouth. `noise`: share of
    utterances with added noise, 5 to 30 dB below the speech. `reverb`: share of utterances with a decaying tail of up to
    `reverb_time` seconds (to −60 dB). `time_mask`, `mel_mask`: longest hidden stretch in frames of 10 ms and in mel bands, two of
    each (SpecAugment, Park et al. 2019).
    """

    speed: float = pydantic.Field(0.1, ge=0, lt=0.5)
    pitch: float = pydantic.Field(0.12, ge=0, lt=0.5)
    gain: float = pydantic.Field(20.0, ge=0)
    tilt: float = pydantic.Field(6.0, ge=0)
    noise: float = pydantic.Field(0.3, ge=0, le=1)
    reverb: float = pydantic.Field(0.0, ge=0, le=1)
    reverb_time: float = pydantic.Field(0.4, gt=0)
    time_mask: int = pydantic.Field(0, ge=0)
    mel_mask: int = pydantic.Field(0, ge=0)


class EncoderConfig(Schema):
    """A small encoder from scratch: `conv_blocks` convolutional blocks and `layers_before` transformer layers at 50 Hz, average
    pooling, `layers_pooled` more layers, the quantiser, `layers_after` layers; then a text decoder of `text_layers`. All `dim`
    wide, of `heads` heads.

    `attention`: how many codes a state before the quantiser may look to either side. `block`: with it, codes are final in blocks
    of that many: convolutions are causal, and attention sees its own block and what lies before, never a later block. Without,
    both sides are seen.
    """

    kind: Literal["small"] = "small"
    dim: int = pydantic.Field(128, ge=8)
    heads: int = pydantic.Field(4, ge=1)
    conv_blocks: int = pydantic.Field(3, ge=0)
    layers_before: int = pydantic.Field(0, ge=0)
    layers_pooled: int = pydantic.Field(2, ge=0)
    layers_after: int = pydantic.Field(2, ge=0)
    text_layers: int = pydantic.Field(2, ge=1)
    attention: int = pydantic.Field(6, ge=0)
    block: int | None = pydantic.Field(None, ge=1)
    dropout: float = pydantic.Field(0.0, ge=0, lt=1)

    @pydantic.model_validator(mode="after")
    def _check(self) -> "EncoderConfig":
        if self.dim % self.heads or self.dim // self.heads % 2:
            raise ValueError(f"dim {self.dim} does not give each of {self.heads} heads an even number of values")
        return self


class WhisperConfig(Schema):
    """Encoder and text decoder of a Whisper `checkpoint` (a folder or Hugging Face name, read where training starts), cut for the
    quantiser after encoder layer `layer`, as GLM-4-Voice's is.

    `block`: with it, codes are final in blocks of that many: causal convolutions, and attention sees its own block and what lies
    before. Without, a window is seen whole. Either way audio is taken in windows, since Whisper knows places in a window alone;
    they overlap by `overlap` codes on each side that is seen. `prompt`: tokens (or ids) of `text_tokenizer` that open every
    transcript and are not learned, such as those of a language and of a task; by default the checkpoint's first token alone.
    `architecture`: what the checkpoint says of its shape; filled in where training starts.
    """

    kind: Literal["whisper"]
    checkpoint: str
    layer: int = pydantic.Field(ge=1)
    pooling: Literal["avg", "max"] = "avg"
    block: int | None = pydantic.Field(None, ge=1)
    overlap: int = pydantic.Field(25, ge=0)
    prompt: tuple[int | str, ...] = ()
    architecture: dict = {}


def _encoder_kind(value: object) -> str:
    return value.get("kind", "small") if isinstance(value, dict) else getattr(value, "kind", "small")


AnyEncoder = Annotated[
    Annotated[EncoderConfig, pydantic.Tag("small")] | Annotated[WhisperConfig, pydantic.Tag("whisper")],
    pydantic.Discriminator(_encoder_kind),
]


class FlowConfig(Schema):
    """`blocks` convolutional blocks at 100 Hz, `dim` wide; `steps` from noise to speech; `guidance` by what the condition
    changes (0: none, half the work)."""

    dim: int = pydantic.Field(128, ge=8)
    blocks: int = pydantic.Field(4, ge=1)
    steps: int = pydantic.Field(8, ge=1)
    guidance: float = pydantic.Field(0.7, ge=0)


class MelDecoderConfig(Schema):
    """A coarse log-mel by `layers` transformer layers at the code rate and `blocks` convolutional blocks at 50 Hz, `dim` wide, of
    `heads` heads, and, with `flow`, a finer one drawn from it.

    A code looks `attention` codes to either side. `block`: with it, sound is final in blocks of that many codes and depends on no
    later ones, as in `EncoderConfig`. `voice`: size of a voice vector.
    """

    dim: int = pydantic.Field(128, ge=8)
    heads: int = pydantic.Field(4, ge=1)
    layers: int = pydantic.Field(2, ge=0)
    blocks: int = pydantic.Field(2, ge=0)
    attention: int = pydantic.Field(6, ge=0)
    block: int | None = pydantic.Field(None, ge=1)
    voice: int = pydantic.Field(8, ge=1)
    dropout: float = pydantic.Field(0.0, ge=0, lt=1)
    flow: FlowConfig | None = None


class SpeechConfig(Schema):
    """`pool` states of 50 Hz make one code (4: 12.5 Hz). `window`: codes in the longest piece taken at once; longer audio is
    taken in overlapping windows. Weights beside the seq2seq loss's 1: `ctc_weight`, and `mel_weight` for what the mel decoder
    asks of the codes. Quantisation starts after the share `quantize_from` of the training. `longest`: codes of the longest
    utterance of the training, filled in there; the text of longer speech is read in overlapping pieces of at most that many
    (without it, of `window`).
    """

    quantizer: QuantizerConfig
    mels: int = pydantic.Field(80, ge=8)
    pool: int = pydantic.Field(4, ge=1)
    window: int = pydantic.Field(375, ge=1)
    longest: int | None = pydantic.Field(None, ge=1)
    encoder: AnyEncoder = EncoderConfig()
    decoder: MelDecoderConfig = MelDecoderConfig()
    ctc_weight: float = pydantic.Field(0.5, ge=0)
    mel_weight: float = pydantic.Field(1.0, ge=0)
    quantize_from: float = pydantic.Field(0.4, ge=0, lt=1)
    augment: AugmentConfig = AugmentConfig()

    @property
    def frames_per_code(self) -> int:
        return STRIDE * self.pool

    @property
    def samples_per_code(self) -> int:
        return HOP * self.frames_per_code


class VocoderConfig(Schema):
    """`blocks` convolutional blocks, `dim` wide, at 100 Hz; an ISTFT of `window` samples, a multiple of 160, every 10 ms."""

    kind: Literal["istft"] = "istft"
    mels: int = pydantic.Field(80, ge=8)
    dim: int = pydantic.Field(192, ge=8)
    blocks: int = pydantic.Field(6, ge=1)
    window: int = pydantic.Field(640, ge=2 * HOP, multiple_of=HOP)
    crop: int = pydantic.Field(64, ge=8)
    """Frames of a training example."""


class TextToCodesConfig(Schema):
    """A Llama-shaped decoder. `joined`: share of training examples made of two utterances, so that longer texts than those of the
    data can be spoken. `pace`: codes for a token of text, that of the training data if not given. `codes_per_token`: at most so
    many codes for a token of text, and `more_codes` besides."""

    dim: int = pydantic.Field(192, ge=8)
    layers: int = pydantic.Field(4, ge=1)
    heads: int = pydantic.Field(4, ge=1)
    joined: float = pydantic.Field(0.3, ge=0, le=1)
    pace: float | None = pydantic.Field(None, gt=0)
    codes_per_token: int = pydantic.Field(40, ge=1)
    more_codes: int = pydantic.Field(40, ge=0)

    @pydantic.model_validator(mode="after")
    def _check(self) -> "TextToCodesConfig":
        if self.dim % self.heads or self.dim // self.heads % 2:
            raise ValueError(f"dim {self.dim} does not give each of {self.heads} heads an even number of values")
        return self
