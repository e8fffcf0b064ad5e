"""The shape of a speech tokenizer, and how its training speech is varied."""

import pydantic

from mmpt.config import Schema
from mmpt.tokenizers.quantizers import QuantizerConfig

SAMPLE_RATE = 16_000
HOP = 160  # samples between log-mel frames: 100 Hz
STRIDE = 2  # of the encoder's convolutional stem: 50 Hz states


class AugmentConfig(Schema):
    """How training speech is varied, each value drawn uniformly for each utterance.

    `speed` and `pitch`: largest relative change of tempo and of all frequencies. `gain`: largest change of level in dB.
    `noise`: share of utterances with added noise, 5 to 30 dB below the speech. `time_mask`, `mel_mask`: longest hidden stretch
    in frames of 10 ms and in mel bands, two of each (SpecAugment, Park et al. 2019).
    """

    speed: float = pydantic.Field(0.1, ge=0, lt=0.5)
    pitch: float = pydantic.Field(0.08, ge=0, lt=0.5)
    gain: float = pydantic.Field(6.0, ge=0)
    noise: float = pydantic.Field(0.3, ge=0, le=1)
    time_mask: int = pydantic.Field(0, ge=0)
    mel_mask: int = pydantic.Field(0, ge=0)


class SpeechConfig(Schema):
    """Encoder: `conv_blocks` convolutional blocks and `layers_before` transformer layers at 50 Hz, average pooling by `pool`
    (4 → 12.5 Hz), `layers_pooled` more layers, the quantiser, `layers_after` layers; then a text decoder of `text_layers`.
    Mel decoder: `mel_layers` at the code rate, `mel_blocks` convolutional blocks at 50 Hz. All `dim` wide, of `heads` heads.

    `attention`: how many codes a state before the quantiser may look to either side. `window`: codes in the longest piece taken
    at once; longer audio is cut there, so it should not go far beyond the training utterances. `voice`: size of a voice vector.
    Weights beside the seq2seq loss's 1: `ctc_weight`, and `mel_weight` for what the mel decoder asks of the codes.
    Quantisation starts after the share `quantize_from` of the training; from the share `mel_from` on the encoder rests and the
    mel decoder alone goes on.
    """

    quantizer: QuantizerConfig
    mels: int = pydantic.Field(80, ge=8)
    dim: int = pydantic.Field(128, ge=8)
    heads: int = pydantic.Field(4, ge=1)
    conv_blocks: int = pydantic.Field(3, ge=0)
    layers_before: int = pydantic.Field(0, ge=0)
    layers_pooled: int = pydantic.Field(2, ge=0)
    layers_after: int = pydantic.Field(2, ge=0)
    text_layers: int = pydantic.Field(2, ge=1)
    mel_layers: int = pydantic.Field(2, ge=0)
    mel_blocks: int = pydantic.Field(2, ge=0)
    pool: int = pydantic.Field(4, ge=1)
    attention: int = pydantic.Field(6, ge=0)
    window: int = pydantic.Field(375, ge=1)
    voice: int = pydantic.Field(8, ge=1)
    dropout: float = pydantic.Field(0.0, ge=0, lt=1)
    ctc_weight: float = pydantic.Field(0.5, ge=0)
    mel_weight: float = pydantic.Field(1.0, ge=0)
    quantize_from: float = pydantic.Field(0.4, ge=0, lt=1)
    mel_from: float = pydantic.Field(0.7, gt=0, le=1)
    augment: AugmentConfig = AugmentConfig()

    @property
    def frames_per_code(self) -> int:
        return STRIDE * self.pool

    @property
    def samples_per_code(self) -> int:
        return HOP * self.frames_per_code

    @pydantic.model_validator(mode="after")
    def _check(self) -> "SpeechConfig":
        if self.dim % self.heads or self.dim % 2:
            raise ValueError(f"dim {self.dim} is no even multiple of heads {self.heads}")
        if self.quantize_from >= self.mel_from:
            raise ValueError(f"quantize_from {self.quantize_from} comes after mel_from {self.mel_from}")
        return self
