"""What tokenizers/train.py is told: one schema for each kind of training."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from mmpt.config import Schema
from mmpt.tokenizers.image.config import Gates, ImageTokenizerConfig
from mmpt.tokenizers.image.stage_config import AlignConfig, DrawConfig, JointConfig, QuantizeConfig
from mmpt.tokenizers.speech.config import SpeechConfig, TextToCodesConfig
from mmpt.tokenizers.speech.vocoders.istft import Istft
from mmpt.training.config import FitConfig


class _Spec(Schema):
    data: tuple[Path, ...] = pydantic.Field(min_length=1)
    fit: FitConfig
    examples: int | None = None
    cache_mib: int = pydantic.Field(default=1024, ge=0)
    """MiB of decoded examples that each rank keeps in memory; what is beyond is read and decoded anew each time, ahead of the
    step."""


class SpeechSpec(_Spec):
    """`data`: document shards, of which every utterance with a transcript is used (the first `examples`). `text_tokenizer`: a
    folder or Hugging Face name, the units of the transcripts. `fit` trains encoder, codebook and text decoder with the mel
    decoder beside them; then, with them at rest, `speak` trains the mel decoder alone. `vocoder`: the folder of one, or the
    folder or Hugging Face name of a published one (speecht5), or `griffin_lim`, which is the default; saved with the
    tokenizer."""

    kind: Literal["speech"]
    speak: FitConfig | None = None
    vocoder: str | None = None
    text_tokenizer: str
    tokenizer: SpeechConfig


class _Fitted(Schema):
    fit: FitConfig


class _Align(AlignConfig, _Fitted):
    pass


class _Quantize(QuantizeConfig, _Fitted):
    pass


class _Draw(DrawConfig, _Fitted):
    """`generated_codes`: a file of codes such as tokenizers/encode.py writes of `data`, by a language model."""

    generated_codes: Path | None = None


class _Joint(JointConfig, _Fitted):
    pass


class ImageStages(Schema):
    """Those that are given, in this order; each has a `fit` of its own. `harden` is `draw` once more, with codes perturbed."""

    joint: _Joint | None = None
    align: _Align | None = None
    quantize: _Quantize | None = None
    draw: _Draw | None = None
    harden: _Draw | None = None

    @pydantic.model_validator(mode="after")
    def _something(self) -> "ImageStages":
        if not self.given:
            raise ValueError("no stage is given")
        return self

    @property
    def given(self) -> dict[str, _Fitted]:
        return {name: stage for name in type(self).model_fields if (stage := getattr(self, name)) is not None}


class ImageSpec(Schema):
    """`data`: document shards, of which every picture is used (the first `examples`), with its alternative text as caption.
    `start`: the folder of a tokenizer that is trained further, instead of `tokenizer`, the configuration of a new one.
    `held_out`: document shards on which the result must pass `gates`."""

    kind: Literal["image"]
    data: tuple[Path, ...] = pydantic.Field(min_length=1)
    examples: int | None = None
    cache_mib: int = pydantic.Field(default=1024, ge=0)
    """MiB of decoded examples that each rank keeps in memory; what is beyond is read and decoded anew each time, ahead of the
    step."""
    tokenizer: ImageTokenizerConfig | None = None
    start: Path | None = None
    stages: ImageStages
    held_out: Path | None = None
    gates: Gates = Gates()

    @pydantic.model_validator(mode="after")
    def _branches(self) -> "ImageSpec":
        if (self.tokenizer is None) == (self.start is None):
            raise ValueError("expected either tokenizer or start")
        if self.stages.quantize and self.tokenizer and not self.tokenizer.branches:
            raise ValueError("stages.quantize trains tokenizer.branches, which are missing")
        return self


class TextSpec(Schema):
    """A byte-level BPE of at most `ids` ids, trained on the text of `data`, document shards."""

    kind: Literal["text"]
    data: tuple[Path, ...] = pydantic.Field(min_length=1)
    ids: int = pydantic.Field(ge=257)


class VocoderSpec(_Spec):
    """`data`: document shards, of which every utterance is used (the first `examples`), with or without a transcript."""

    kind: Literal["vocoder"]
    vocoder: Istft = Istft()


class TextToCodesSpec(_Spec):
    """`data`: document shards, of which every utterance with a transcript is used (the first `examples`), encoded by the
    tokenizer in the folder `speech_tokenizer`. `text_tokenizer`: a folder or Hugging Face name."""

    kind: Literal["text_to_codes"]
    speech_tokenizer: Path
    text_tokenizer: str
    model: TextToCodesConfig = TextToCodesConfig()


class TokenizerSpec(pydantic.RootModel):
    """One of these, by `kind`."""

    root: Annotated[TextSpec | SpeechSpec | ImageSpec | VocoderSpec | TextToCodesSpec, pydantic.Field(discriminator="kind")]
