"""A recipe's named stages: each goes on from the last checkpoint of the one before, with settings of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from mmpt.config import parse_config
from mmpt.training.config import FinetuneConfig, PretrainConfig

C = TypeVar("C", PretrainConfig, FinetuneConfig)


def stages(config: C) -> Iterator[C]:
    """The configuration of each stage, whose output is OUTPUT/NAME; `config` itself where it has none.

    Stages that have reached their last step are left out. Raises `ConfigError` naming the stage and its mistakes.
    """
    before: Path | None = None
    for stage in config.stages:
        options = {key: value for key, value in stage.items() if key != "name"}
        content = {**config.model_dump(mode="json", by_alias=True, exclude_unset=True), "stages": []}
        if "tokens" in options:
            content.pop("steps", None)
        content = {**content, **options, "output": str(config.output / stage["name"])}
        if before is not None:
            content |= _start(config, before)
        found = parse_config(content, type(config), f"stages.{stage['name']}")
        before = last_checkpoint(found)
        if not before.is_dir():
            yield found
    if not config.stages:
        yield config


def last_checkpoint(config: PretrainConfig | FinetuneConfig) -> Path:
    """Where the checkpoint of a run's last step is, once it is there."""
    return config.output / "checkpoints" / f"step-{config.steps:08d}"


def _start(config: PretrainConfig | FinetuneConfig, before: Path) -> dict:
    """What lets a stage start from the checkpoint `before`."""
    features = {"features": {}, "features_from": str(before)} if (config.features or config.features_from) else {}
    if isinstance(config, FinetuneConfig):
        return {"from": str(before), "backbone": None, **features}
    return {"backbone": {"path": str(before / "backbone")}, **features}
