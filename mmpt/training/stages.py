"""A recipe's named stages: each goes on from the last checkpoint of the one before, with settings of its own."""

from pathlib import Path
from typing import Any

from mmpt.config import merged, parse_config
from mmpt.errors import ConfigError
from mmpt.training.config import TrainingConfig


def stages(config: TrainingConfig) -> list[TrainingConfig]:
    """The configuration of each stage, whose output is OUTPUT/NAME; `config` itself where it has none.

    Stages that have reached their last step are left out. Raises `ConfigError` naming the mistakes of every stage.
    """
    if not config.stages:
        return [config]
    return [stage for stage in _parsed(config) if not last_checkpoint(stage).is_dir()]


def _parsed(config: TrainingConfig) -> list[TrainingConfig]:
    base = {**config.model_dump(mode="json", by_alias=True, exclude_unset=True), "stages": []}
    found, problems, before = [], [], None
    for stage in config.stages:
        # Both say how long a run is: those of the stage stand in place of those of the recipe.
        content = {key: value for key, value in base.items() if not (key == "steps" and "tokens" in stage.changes)}
        content = {**merged(content, stage.changes), "output": str(config.output / stage.name)}
        if copy_to := (content.get("run") or {}).get("copy_to"):  # a folder for each, as `output` has
            content["run"] = {**content["run"], "copy_to": f"{copy_to.rstrip('/')}/{stage.name}"}
        if before is not None:
            content |= going_on(content, before, "features" in stage.changes)
        try:
            found.append(parse_config(content, TrainingConfig, f"stages.{stage.name}"))
            before = found[-1]
            best = before.evaluate.best if before.evaluate is not None else None
            if best is not None and best.patience is not None and stage is not config.stages[-1]:
                problems.append(f"stages.{stage.name}: evaluate.best.patience: the next stage goes on from its last step")
        except ConfigError as problem:
            problems.append(str(problem))
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def last_checkpoint(config: TrainingConfig) -> Path:
    """Where the checkpoint of a run's last step is, once it is there."""
    return config.output / "checkpoints" / f"step-{config.steps:08d}"


def going_on(content: dict[str, Any], before: TrainingConfig, changed: bool = False) -> dict[str, Any]:
    """What lets a stage of the settings `content` start from the last checkpoint of the stage `before`; `changed`: it has
    settings of features of its own."""
    last = last_checkpoint(before)
    features = {}
    if before.features or before.features_from:
        features = {"features": content["features"] if changed else {}, "features_from": str(last)}
    if before.frozen or content.get("adapter") or content.get("new_rows"):
        # What was learned beside a frozen backbone is not in its files: the next stage must take it along.
        return {"from": str(last), "backbone": None, **features}
    linear = {} if before.backbone is None else {"linear": before.backbone.linear.model_dump(mode="json")}
    return {"backbone": {"path": str(last / "backbone"), **linear}, **features}
