"""The shape of a speech tokenizer."""

import pydantic

from mmpt.config import Schema
from mmpt.tokenizers.quantizers import QuantizerConfig

SAMPLE_RATE = 16_000
HOP = 160  # samples between log-mel frames: 100 Hz
STRIDE = 2  # of the encoder's convolutional stem: 50 Hz states


class AugmentConfig(Schema):
    """How training speech is varied, each value drawn uniformly for each utterance.

    `speed` and `pitch`: largest relative change of duration and of all frequencies. `gain`: largest change of level, dB.
    `noise`: share of utterances with added noise, 5 to 30 dB below the speech. `time_mask`, `mel_mask`: longest hidden stretch,
    in frames of 10 ms and in mel bands, two of each (SpecAugment, Park et al. 2019).
    """

    speed: float = pydantic.Field(0.1, ge=0, lt=0.5)
    pitch: float = pydantic.Field(0.08, ge=0, lt=0.5)
    gain: float = pydantic.Field(6.0, ge=0)
    noise: float = pydantic.Field(0.5, ge=0, le=1)
    time_mask: int = pydantic.Field(8, ge=0)
    mel_mask: int = pydantic.Field(10, ge=0)


class SpeechConfig(Schema):
    """Encoder: `layers_before` transformer layers at 50 Hz, pooling by `pool` (4 → 12.5 Hz), `layers_pooled` more, the quantiser,
    `layers_after`; then a text decoder of `text_layers`. Mel decoder: `mel_layers` at the code rate, `mel_blocks` convolutional
    blocks at 50 Hz. All of them `dim` wide with `heads` heads.

    `attention`: how many codes each encoder state before the quantiser may look to either side. `window`: codes in the longest
    piece taken at once; longer audio is cut there. `ctc_weight`: of the CTC loss beside the seq2seq loss. Quantisation starts
    after the share `quantize_from` of the training; from `mel_from` on the encoder rests and the mel decoder trains.
    """

    quantizer: QuantizerConfig
    mels: int = 80
    dim: int = 128
    heads: int = 4
    layers_before: int = 1
    layers_pooled: int = 2
    layers_after: int = 2
    text_layers: int = 2
    mel_layers: int = 2
    mel_blocks: int = 2
    pool: int = 4
    attention: int = 6
    window: int = 375
    voice: int = 8
    dropout: float = 0.0
    ctc_weight: float = 0.5
    quantize_from: float = 0.15
    mel_from: float = 0.6
    augment: AugmentConfig = AugmentConfig()

    @property
    def frames_per_code(self) -> int:
        return STRIDE * self.pool

    @property
    def samples_per_code(self) -> int:
        return HOP * STRIDE * self.pool

    @pydantic.model_validator(mode="after")
    def _check(self) -> "SpeechConfig":
        if self.dim % self.heads or self.dim % 2:
            raise ValueError(f"dim {self.dim} is no even multiple of heads {self.heads}")
        if not 0 <= self.quantize_from < self.mel_from < 1:
            raise ValueError("expected 0 <= quantize_from < mel_from < 1")
        return self
