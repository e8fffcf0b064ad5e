"""What tokenizers/train.py is told: one schema for each kind of training."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from mmpt.config import Schema
from mmpt.tokenizers.image.config import ImageTokenizerConfig
from mmpt.tokenizers.image.gates import Gates
from mmpt.tokenizers.image.stage_config import AlignConfig, DrawConfig, JointConfig, QuantizeConfig
from mmpt.tokenizers.speech.config import AdversariesConfig, MelDecoderConfig, SoundGates, SpeechConfig, TextToCodesConfig
from mmpt.tokenizers.speech.vocoders.istft import Istft
from mmpt.training.config import FitConfig


class _Spec(Schema):
    data: tuple[Path, ...] = pydantic.Field(min_length=1)
    """Document shards."""
    fit: FitConfig
    """The training."""
    examples: int | None = None
    """So many of the data at most, the first; null: all."""
    cache_mib: int = pydantic.Field(default=1024, ge=0)
    """MiB of decoded examples that each rank keeps in memory; what is beyond is read and decoded anew each time, ahead of the
    step."""


class SpeechSpec(_Spec):
    """A speech tokenizer, of every utterance of `data` with a transcript. `fit` trains encoder, codebook, text decoder and mel
    decoder."""

    kind: Literal["speech"]
    """Says that it is one."""
    fit: FitConfig | None  # pyright: ignore[reportIncompatibleVariableOverride]  # the others cannot do without
    """The training; null: a `fixed` encoder with codes that stay as they begin is taken as it begins."""
    speak: FitConfig | None = None
    """Then, with the rest frozen, the training of the mel decoder alone."""
    vocoder: str | None = None
    """The folder of one, or the folder or Hugging Face name of a published one (speecht5), or `griffin_lim`, which is the
    default; saved with the tokenizer."""
    held_out: Path | None = None
    """Document shards with transcripts, on whose decoded sound the result must pass `gates`."""
    gates: SoundGates = SoundGates()
    """Bars for its figures, and who reads it."""
    text_tokenizer: str
    """A folder or Hugging Face name: the units of the transcripts."""
    tokenizer: SpeechConfig
    """Its shape."""

    @pydantic.model_validator(mode="after")
    def _something_to_begin_from(self) -> "SpeechSpec":
        if self.fit is None and not (self.tokenizer.encoder.heard_once and self.tokenizer.quantizer.settled):
            raise ValueError("fit is null: expected a fixed encoder, and codes that stay as they begin (decay: 1)")
        return self


class FittedStage(Schema):
    fit: FitConfig
    """The training of the stage."""


class _Align(AlignConfig, FittedStage):
    pass


class _Quantize(QuantizeConfig, FittedStage):
    pass


class _Draw(DrawConfig, FittedStage):
    generated_codes: Path | None = None
    """A file of codes such as tokenizers/encode.py writes of `data`, by a language model."""


class _Joint(JointConfig, FittedStage):
    pass


class ImageStages(Schema):
    """Those that are given, in this order; each has a `fit` of its own."""

    joint: _Joint | None = None
    """All parts at once."""
    align: _Align | None = None
    """SEED's stage I."""
    quantize: _Quantize | None = None
    """SEED's stage II."""
    draw: _Draw | None = None
    """The decoder alone."""
    harden: _Draw | None = None
    """`draw` once more, with codes perturbed."""

    @pydantic.model_validator(mode="after")
    def _something(self) -> "ImageStages":
        if not self.given:
            raise ValueError("no stage is given")
        return self

    @property
    def given(self) -> dict[str, FittedStage]:
        return {name: stage for name in type(self).model_fields if (stage := getattr(self, name)) is not None}


class ImageSpec(Schema):
    """An image tokenizer, of every image of `data` with its alternative text as caption."""

    kind: Literal["image"]
    """Says that it is one."""
    data: tuple[Path, ...] = pydantic.Field(min_length=1)
    """Document shards."""
    examples: int | None = None
    """So many images at most, the first; null: all."""
    cache_mib: int = pydantic.Field(default=1024, ge=0)
    """MiB of decoded examples that each rank keeps in memory; what is beyond is read and decoded anew each time, ahead of the
    step."""
    tokenizer: ImageTokenizerConfig | None = None
    """The shape of a new one."""
    start: Path | None = None
    """In place of `tokenizer`: the folder of one that is trained further."""
    stages: ImageStages
    """How it is trained."""
    held_out: Path | None = None
    """Document shards on which the result must pass `gates`."""
    gates: Gates = Gates()
    """Bars for its figures."""

    @pydantic.model_validator(mode="after")
    def _branches(self) -> "ImageSpec":
        if (self.tokenizer is None) == (self.start is None):
            raise ValueError("expected either tokenizer or start")
        if self.stages.quantize and self.tokenizer and not self.tokenizer.branches:
            raise ValueError("stages.quantize trains tokenizer.branches, which are missing")
        return self


class TextSpec(Schema):
    """A byte-level BPE, trained on the text of `data`."""

    kind: Literal["text"]
    """Says that it is one."""
    data: tuple[Path, ...] = pydantic.Field(min_length=1)
    """Document shards."""
    ids: int = pydantic.Field(ge=257)
    """Tokens that it has at most."""
    special: tuple[str, ...] = ()
    """Tokens among them that no text is encoded to, such as the marks of a `transform` (see datasets/specs/to_tokens.yaml)."""


class SpeakingSpec(_Spec):
    """The decoder of a speech tokenizer alone, of every utterance of `data`, with or without a transcript. The result is the
    whole tokenizer, whose codes are those it had."""

    kind: Literal["speaking"]
    """Says that it is one."""
    tokenizer: Path
    """The folder of the tokenizer whose codes are learned to be spoken."""
    decoder: MelDecoderConfig | None = None
    """The shape of a new decoder; without it, the tokenizer's own goes on learning."""
    decoder_from: Path | None = None
    """In place of `decoder`: the folder of another tokenizer, whose decoder goes on learning on these codes. Both have codebook
    entries of one size."""
    codes: Path | None = None
    """A file of codes such as tokenizers/encode.py writes of `data` by this tokenizer: those utterances alone are learned from.
    Without it, all are encoded before the first step."""
    crop: int = pydantic.Field(default=75, ge=4)
    """Codes of an utterance that are learned at once; of a longer one, a piece that is drawn anew each time."""
    vocoder: str | None = None
    """The folder of one, or the folder or Hugging Face name of a published one, or `griffin_lim`; without it, that which the
    tokenizer has stays."""
    held_out: Path | None = None
    """Document shards with transcripts, on whose decoded sound the result must pass `gates`."""
    gates: SoundGates = SoundGates()
    """Bars for its figures, and who reads it."""

    @pydantic.model_validator(mode="after")
    def _one_decoder(self) -> "SpeakingSpec":
        if self.decoder and self.decoder_from:
            raise ValueError("expected decoder or decoder_from, not both")
        return self


class VocoderSpec(_Spec):
    """A vocoder, of every utterance of `data`, with or without a transcript."""

    kind: Literal["vocoder"]
    """Says that it is one."""
    vocoder: Istft = Istft()
    """Its shape."""
    adversaries: AdversariesConfig | None = None
    """What it is trained against, beside distances of spectra; by default nothing is."""


class TextToCodesSpec(_Spec):
    """A text-to-token model, of every utterance of `data` with a transcript."""

    kind: Literal["text_to_codes"]
    """Says that it is one."""
    speech_tokenizer: Path
    """The folder of the speech tokenizer whose codes it learns."""
    text_tokenizer: str
    """A folder or Hugging Face name."""
    model: TextToCodesConfig = TextToCodesConfig()
    """Its shape."""


class TokenizerSpec(pydantic.RootModel):
    """One of these, by `kind`."""

    root: Annotated[
        TextSpec | SpeechSpec | SpeakingSpec | ImageSpec | VocoderSpec | TextToCodesSpec, pydantic.Field(discriminator="kind")
    ]
