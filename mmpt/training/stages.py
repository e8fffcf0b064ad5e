"""A recipe's named stages: each goes on from the last checkpoint of the one before, with settings of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from mmpt.config import merged, parse_config
from mmpt.errors import ConfigError
from mmpt.training.config import FinetuneConfig, PretrainConfig

C = TypeVar("C", PretrainConfig, FinetuneConfig)


def stages(config: C) -> Iterator[C]:
    """The configuration of each stage, whose output is OUTPUT/NAME; `config` itself where it has none.

    Stages that have reached their last step are left out. All are read before the first is given. Raises `ConfigError` naming
    the mistakes of every stage.
    """
    if not config.stages:
        yield config
    for stage in _parsed(config):
        if not last_checkpoint(stage).is_dir():
            yield stage


def _parsed(config: C) -> list[C]:
    base = {**config.model_dump(mode="json", by_alias=True, exclude_unset=True), "stages": []}
    found, problems, before = [], [], config.output
    for stage in config.stages:
        options = {key: value for key, value in stage.items() if key != "name"}
        content = {key: value for key, value in base.items() if not (key == "steps" and "tokens" in options)}
        content = {**merged(content, options), "output": str(config.output / stage["name"])}
        if stage is not config.stages[0]:
            content |= _start(config, before)
        try:
            found.append(parse_config(content, type(config), f"stages.{stage['name']}"))
            before = last_checkpoint(found[-1])
        except ConfigError as problem:
            problems.append(str(problem))
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def last_checkpoint(config: PretrainConfig | FinetuneConfig) -> Path:
    """Where the checkpoint of a run's last step is, once it is there."""
    return config.output / "checkpoints" / f"step-{config.steps:08d}"


def _start(config: PretrainConfig | FinetuneConfig, before: Path) -> dict:
    """What lets a stage start from the checkpoint `before`."""
    features = {"features": {}, "features_from": str(before)} if (config.features or config.features_from) else {}
    if isinstance(config, FinetuneConfig):
        return {"from": str(before), "backbone": None, **features}
    backbone = {"path": str(before / "backbone"), "linear": config.backbone.linear.model_dump(mode="json")}
    return {"backbone": backbone, **features}
