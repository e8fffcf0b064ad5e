"""The shape of a speech tokenizer, and how its training speech is varied."""

import pydantic

from mmpt.codebooks import Layout
from mmpt.config import Schema
from mmpt.modality import SAMPLE_RATE as SAMPLE_RATE
from mmpt.tokenizers.figures import SpeechFigures
from mmpt.tokenizers.quantizers import Quantizer
from mmpt.tokenizers.speech.constants import HOP as HOP
from mmpt.tokenizers.speech.constants import STRIDE as STRIDE
from mmpt.tokenizers.speech.encoders import Encoder
from mmpt.tokenizers.speech.encoders.small import Small

FORMAT = "mmpt-speech-tokenizer/2"


class AugmentConfig(Schema):
    """How training speech is varied, each value drawn uniformly for each utterance."""

    speed: float = pydantic.Field(default=0.1, ge=0, lt=0.5)
    """Largest relative change of tempo."""
    pitch: float = pydantic.Field(default=0.12, ge=0, lt=0.5)
    """Largest relative change of all frequencies."""
    gain: float = pydantic.Field(default=20.0, ge=0)
    """Largest change of level in dB."""
    tilt: float = pydantic.Field(default=6.0, ge=0)
    """Largest change of level in dB from the lowest to the highest band: another microphone or mouth."""
    noise: float = pydantic.Field(default=0.3, ge=0, le=1)
    """Share of utterances with added noise, 5 to 30 dB below the speech."""
    reverb: float = pydantic.Field(default=0.0, ge=0, le=1)
    """Share of utterances with a decaying tail, as of a room."""
    reverb_time: float = pydantic.Field(default=0.4, gt=0)
    """Longest tail in seconds, to −60 dB."""
    time_mask: int = pydantic.Field(default=0, ge=0)
    """Longest hidden stretch in frames of 10 ms, two of them (SpecAugment, Park et al. 2019, arXiv:1904.08779)."""
    mel_mask: int = pydantic.Field(default=0, ge=0)
    """Widest hidden stretch in mel bands, two of them."""


class FlowConfig(Schema):
    """Flow matching over log-mels: a finer one drawn from the coarse one."""

    dim: int = pydantic.Field(default=128, ge=8)
    """Values of a state of 10 ms."""
    blocks: int = pydantic.Field(default=4, ge=1)
    """Convolutional blocks at 100 Hz."""
    steps: int = pydantic.Field(default=8, ge=1)
    """Euler steps from noise to speech."""
    guidance: float = pydantic.Field(default=0.7, ge=0)
    """How far each step goes beyond what the condition changes; 0: none, half the work."""


class ReferenceConfig(Schema):
    """A reference encoder: a voice out of how somebody sounds in a stretch of speech, learned with what it is to make."""

    dim: int = pydantic.Field(default=128, ge=8)
    """Values of a state of 10 ms."""
    blocks: int = pydantic.Field(default=3, ge=0)
    """Convolutional blocks at 100 Hz."""
    shortest: float = pydantic.Field(default=0.25, gt=0, le=1)
    """In training, the least share of an utterance that the voice is taken of; the rest of it is what must be spoken."""
    longest: float = pydantic.Field(default=0.6, gt=0, lt=1)
    """The most."""


class MelDecoderConfig(Schema):
    """The way from codes back to a log-mel: a coarse one by transformer layers at the code rate and convolutional blocks at 50
    Hz, and, with `flow`, a finer one drawn from it."""

    dim: int = pydantic.Field(default=128, ge=8)
    """Values of a state."""
    heads: int = pydantic.Field(default=4, ge=1)
    """Of each layer's attention."""
    layers: int = pydantic.Field(default=2, ge=0)
    """Transformer layers at the code rate."""
    blocks: int = pydantic.Field(default=2, ge=0)
    """Convolutional blocks at 50 Hz."""
    attention: int = pydantic.Field(default=6, ge=0)
    """How many codes a code looks to either side."""
    block: int | None = pydantic.Field(default=None, ge=1)
    """With it, sound is final in blocks of that many codes and depends on no later ones, as in an encoder."""
    voice: int = pydantic.Field(default=8, ge=1)
    """Size of a voice vector."""
    reference: ReferenceConfig | None = None
    """What makes voices; by default a linear map of the mean and deviation of each mel band. With it, voices are those, and what
    is learned behind them: `voice` is more than two for each band."""
    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Of the transformer layers, in training."""
    flow: FlowConfig | None = None
    """What draws a finer log-mel; by default nothing does."""


class SpeechConfig(Schema):
    """A speech tokenizer: encoder → quantiser → text decoder and mel decoder."""

    quantizer: Quantizer
    """What makes codes of the encoder's states."""
    mels: int = pydantic.Field(default=80, ge=8)
    """Bands of the log-mel."""
    pool: int = pydantic.Field(default=4, ge=1)
    """How many states of 50 Hz make one code; 4: 12.5 Hz."""
    window: int = pydantic.Field(default=375, ge=1)
    """Codes in the longest piece taken at once; longer audio is taken in overlapping windows."""
    longest: int | None = pydantic.Field(default=None, ge=1)
    """Codes in the longest piece whose text is read at once; longer speech is cut at pauses, or read in pieces that overlap. A
    training fills in those of its longest utterance, where that are fewer (without either: `window`)."""
    encoder: Encoder = Small()
    """What hears, and reads text from the codes."""
    layout: Layout = "flatten"
    """In which order the codes of a residual quantiser's stages come: vector by vector, or each stage a vector behind the one
    before it (MusicGen, Copet et al. 2023, arXiv:2306.05284, section 2.2)."""
    decoder: MelDecoderConfig = MelDecoderConfig()
    """What speaks."""
    ctc_weight: float = pydantic.Field(default=0.5, ge=0)
    """Of the CTC loss, beside the sequence-to-sequence loss's 1."""
    mel_weight: float = pydantic.Field(default=1.0, ge=0)
    """Of what the mel decoder asks of the codes."""
    distance_weight: float = pydantic.Field(default=0.0, ge=0)
    """Of how far what the text decoder reads lies from the same without the quantiser; of a fixed encoder."""
    quantize_from: float = pydantic.Field(default=0.4, ge=0, lt=1)
    """Share of the training after which quantisation sets in."""
    augment: AugmentConfig = AugmentConfig()
    """How training speech is varied."""

    @pydantic.model_validator(mode="after")
    def _room_for_a_voice(self) -> "SpeechConfig":
        if self.decoder.reference and self.decoder.voice <= 2 * self.mels:
            raise ValueError(f"decoder.voice is {self.decoder.voice}, expected more than {2 * self.mels} with decoder.reference")
        return self

    @pydantic.model_validator(mode="after")
    def _something_to_learn(self) -> "SpeechConfig":
        if not self.encoder.learns_text and not self.distance_weight:
            raise ValueError("encoder.taught is states: expected a distance_weight above 0")
        return self

    @property
    def frames_per_code(self) -> int:
        """Log-mel frames of a code."""
        return STRIDE * self.pool

    @property
    def samples_per_code(self) -> int:
        """Samples of a code at 16 kHz."""
        return HOP * self.frames_per_code

    @property
    def vector_rate(self) -> float:
        """Vectors a second, of one code or, of a residual quantiser, several."""
        return SAMPLE_RATE / self.samples_per_code

    @property
    def figures(self) -> SpeechFigures:
        """How many codes, and how often; a residual quantiser's stages are codebooks."""
        depth = self.quantizer.depth
        return SpeechFigures(self.quantizer.codes, self.vector_rate * depth, SAMPLE_RATE, depth, self.layout)


class AdversariesConfig(Schema):
    """Discriminators that a vocoder is trained against."""

    channels: int = pydantic.Field(default=8, ge=1)
    """Of their first layers; HiFi-GAN's have 32."""
    start: float = pydantic.Field(default=0.3, ge=0, lt=1)
    """Share of the training after which they set in: before, distances of spectra alone teach, which costs a fraction."""


class SoundGates(Schema):
    """What decoded sound must hold, as judges from outside find it (`pip install mmpt[judges]`); null: no bar."""

    listener: str | None = None
    """The folder or Hugging Face name of a speech recogniser, such as openai/whisper-base, that reads it; without one, the
    tokenizer reads itself, which says little."""
    reconstruction_wer: float | None = pydantic.Field(default=None, ge=0)
    """Most word errors ÷ words of the decoded sound."""
    dnsmos: float | None = None
    """Least overall quality by DNSMOS, 1 to 5."""
    speaker_similarity: float | None = None
    """Least similarity of voices with the originals', −1 to 1."""
    pesq: float | None = None
    """Least wideband PESQ, 1 to 4.6."""
    stoi: float | None = None
    """Least short-time objective intelligibility, 0 to 1."""


class TextToCodesConfig(Schema):
    """A Llama-shaped decoder from text to speech codes."""

    dim: int = pydantic.Field(default=192, ge=8)
    """Values of a state."""
    layers: int = pydantic.Field(default=4, ge=1)
    """Transformer layers."""
    heads: int = pydantic.Field(default=4, ge=1)
    """Of each layer's attention."""
    joined: float = pydantic.Field(default=0.3, ge=0, le=1)
    """Share of training examples made of two utterances, so that longer texts than those of the data can be spoken."""
    pace: float | None = pydantic.Field(default=None, gt=0)
    """Codes for a token of text; that of the training data if not given."""
    codes_per_token: int = pydantic.Field(default=40, ge=1)
    """At most so many codes for a token of text are spoken, and `more_codes` besides."""
    more_codes: int = pydantic.Field(default=40, ge=0)
    """Codes beyond those of `codes_per_token`, whatever the text."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> "TextToCodesConfig":
        if self.dim % self.heads or self.dim // self.heads % 2:
            raise ValueError(f"dim {self.dim} does not give each of {self.heads} heads an even number of values")
        return self
