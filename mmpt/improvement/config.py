"""The YAML file of a model that learns from its own answers (recipes/improve.py)."""

from pathlib import Path
from typing import Any

import pydantic

from mmpt.config import Schema, merged, parse_config
from mmpt.data.sources import Source
from mmpt.errors import ConfigError
from mmpt.improvement.lessons import Lesson
from mmpt.improvement.rewards import Reward
from mmpt.inference.samplers.top_p import TopP
from mmpt.inference.settings import Settings
from mmpt.training.config import TrainingConfig
from mmpt.training.stages import going_on

OWN = ("output", "data", "stages")
"""Keys of a training that a round sets itself."""


class Phase(Schema):
    """Rounds that learn alike."""

    rounds: int = pydantic.Field(default=1, ge=1)
    """How many."""
    lesson: Lesson
    """What is learned of the answers."""
    training: dict[str, Any] = {}
    """What is different in the training of these rounds, section by section."""


class ImproveConfig(Schema):
    """Rounds of questions, answers, rewards and a training on them."""

    output: Path
    """OUTPUT/round-001 and so on: answers.jsonl, tokens/, training/; what is whole is not done again."""
    prompts: list[Source] = pydantic.Field(min_length=1)
    """Conversations whose last turn, the assistant's, is what is expected; all before it is asked."""
    held_out: list[Source] = []
    """Conversations that are asked before the first round and after the last alone, greedily: OUTPUT/before/results.json and
    OUTPUT/after/results.json."""
    reward: Reward
    """What an answer is worth."""
    prompts_per_round: int = pydantic.Field(default=64, ge=1)
    """Prompts of a round, the next ones in an order that is drawn anew whenever all were asked."""
    answers: int = pydantic.Field(default=8, ge=2)
    """Answers to each."""
    sampling: Settings = Settings(outputs=("text",), text=TopP(temperature=1.0))
    """How they are written. The objective grpo holds for temperature 1 and all tokens."""
    phases: list[Phase] = pydantic.Field(min_length=1)
    """Kinds of rounds, one after the other."""
    training: dict[str, Any]
    """The training of a round: keys of recipes/pretrain.yaml and finetune.yaml, but for output, data and stages. `from` or
    `backbone.path` (a checkpoint's backbone/) say where the first round starts; each other goes on from the one before."""

    @pydantic.model_validator(mode="after")
    def _trainings_that_can_be(self) -> "ImproveConfig":
        try:
            before = None
            for number in range(len(rounds(self))):
                before = training_of(self, number, before)
            start_of(training_of(self, 0, None))
        except ConfigError as problem:
            raise ValueError(str(problem)) from None
        return self


def rounds(config: ImproveConfig) -> list[Phase]:
    """The phase of each round."""
    return [phase for phase in config.phases for _ in range(phase.rounds)]


def training_of(config: ImproveConfig, number: int, before: TrainingConfig | None) -> TrainingConfig:
    """The training of round `number` (from 0), from where the one `before` has ended, None: from where the first starts.

    Raises `ConfigError` naming what is wrong in it."""
    phase, folder = rounds(config)[number], round_folder(config, number)
    content = merged(config.training, phase.training)
    if own := [key for key in OWN if key in content]:
        raise ConfigError(f"training: {', '.join(own)}: set by the round itself")
    content = {"objectives": list(phase.lesson.objectives), **content}
    content |= {"output": str(folder / "training"), "data": [{"path": str(folder / "tokens")}]}
    if before is not None:
        content = {key: value for key, value in content.items() if key not in ("from", "backbone")}
        content |= going_on(content, before)
    return parse_config(content, TrainingConfig, f"training of round {number + 1}")


def round_folder(config: ImproveConfig, number: int) -> Path:
    """Of round `number` (from 0)."""
    return config.output / f"round-{number + 1:03d}"


def start_of(training: TrainingConfig) -> Path:
    """The checkpoint, or run folder, from which a training starts. Raises `ConfigError` where it starts from none."""
    if training.base is not None:
        return training.base
    if training.backbone is not None and training.backbone.path is not None and Path(training.backbone.path).name == "backbone":
        return Path(training.backbone.path).parent
    raise ConfigError("training: expected from: RUN, or backbone: {path: CHECKPOINT/backbone}, with whose tokenizers it answers")
