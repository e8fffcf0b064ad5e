"""What is measured of a model while it learns: the `evaluate` section of a recipe."""

from pathlib import Path
from typing import Literal

import pydantic

from mmpt.config import Schema
from mmpt.inference.settings import Settings
from mmpt.modality import MODALITIES

LOSS, SUITE = "loss", "suite."


class PromptPart(Schema):
    """One part of what is asked."""

    text: str | None = None
    """A piece of text; a prompt word of the arrangements, such as `draw`, is a part of its own."""
    image: Path | None = None
    """The file of a picture."""
    speech: Path | None = None
    """The file of an utterance."""

    @pydantic.model_validator(mode="after")
    def _one(self) -> "PromptPart":
        if sum(one is not None for one in (self.text, self.image, self.speech)) != 1:
            raise ValueError("expected exactly one of text, image and speech")
        return self


class SampleConfig(Settings):
    """A prompt that is answered again and again, beside what may be written of it, how much, and how it is sampled."""

    prompt: list[PromptPart] = pydantic.Field(min_length=1)
    """What is asked, part by part."""
    chat: bool = False
    """It is a user's turn, marked by the chat template of the data."""


class BestConfig(Schema):
    """By which figure the best checkpoint is known, and when a run that no longer improves ends."""

    figure: str = LOSS
    """`loss`, a name of `shards`, either with a modality (`loss/text`), or `suite.` and a figure of the suite
    (`suite.describing_accuracy`)."""
    better: Literal["less", "more"] = "less"
    """Which of two figures is the better one."""
    patience: int | None = pydantic.Field(default=None, ge=1)
    """Evaluations without a better figure after which the run ends; null: it goes on to its last step."""


class EvaluateConfig(Schema):
    """Losses on shards that are not learned from, a suite of benchmarks, samples; the best checkpoint by one of the figures."""

    every: int = pydantic.Field(default=1000, ge=1)
    """Steps between two evaluations; there is one after the last step, too."""
    shards: dict[str, str] = {}
    """Name → folder or fsspec URL of held-out token shards. Their loss is Σ weight · nll / Σ weight over all ranks, weighted by
    their documents alone, of all, by modality and by name."""
    tokens: int = pydantic.Field(default=409_600, ge=1)
    """About so many tokens of each of the shards are read at most, of the same documents each time."""
    suite: Path | None = None
    """A file of benchmarks as recipes/evaluate.py takes it; measured by the first rank, the others wait."""
    suite_every: int | None = pydantic.Field(default=None, ge=1)
    """Steps between two times that the suite is measured, a multiple of `every`; null: each time."""
    samples: list[SampleConfig] = []
    """Prompts whose answers are kept in OUTPUT/samples and shown on the page of the run."""
    best: BestConfig | None = None
    """OUTPUT/best is a link to the checkpoint of the best evaluation, which is kept beside the newest; `{}`: by the loss of all
    shards."""

    @pydantic.field_validator("shards")
    @classmethod
    def _names(cls, shards: dict[str, str]) -> dict[str, str]:
        if odd := [name for name in shards if name == LOSS or "/" in name or name.startswith(SUITE)]:
            raise ValueError(f"expected names other than {LOSS}, without /, found {', '.join(odd)}")
        return shards

    @pydantic.model_validator(mode="after")
    def _something(self) -> "EvaluateConfig":
        if not (self.shards or self.suite or self.samples):
            raise ValueError("expected shards, suite or samples")
        if self.suite_every is not None and self.suite_every % self.every:
            raise ValueError(f"suite_every: {self.suite_every}, expected a multiple of every ({self.every})")
        if self.best is not None:
            self._check_figure(self.best.figure)
        return self

    def _check_figure(self, figure: str) -> None:
        if figure.startswith(SUITE):
            if self.suite is None:
                raise ValueError(f"best.figure: {figure}, but there is no suite")
            if self.suite_every not in (None, self.every):
                raise ValueError(f"best.figure: {figure} is not there at each evaluation (suite_every)")
            return
        name, _, modality = figure.partition("/")
        known = [LOSS, *self.shards] if self.shards else []
        if name not in known or (modality or "text") not in (*MODALITIES, "special"):
            raise ValueError(f"best.figure: {figure}, expected one of {', '.join([*known, 'suite.…'])}, or NAME/MODALITY")

    def due(self, step: int, steps: int) -> bool:
        """Whether step `step` of `steps` is followed by an evaluation."""
        return step % self.every == 0 or step == steps

    def suite_due(self, step: int, steps: int) -> bool:
        """Whether the suite is measured in it."""
        return self.suite is not None and (step % (self.suite_every or self.every) == 0 or step == steps)
