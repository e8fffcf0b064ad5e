"""What a run is going to do, in words and numbers: its parts, the memory they take, its stages; and a rehearsal of it."""

import shutil
from collections.abc import Callable

from peft import PeftModel
from transformers import PreTrainedModel

from mmpt.errors import ConfigError
from mmpt.model.feature_inputs import FeatureInputs
from mmpt.training.config import TrainingConfig
from mmpt.training.distributed import World
from mmpt.training.memory import GIB, counts, memory
from mmpt.training.metrics import peak_memory
from mmpt.training.outline import outline, teachers
from mmpt.training.parts import Part
from mmpt.training.stages import stages

REHEARSED = 2


def model_lines(
    model: PreTrainedModel | PeftModel, config: TrainingConfig, ranks: int, inputs: FeatureInputs | None = None
) -> list[str]:
    """Parameters by part, and what they take on each of `ranks` ranks under the run's ZeRO stage: weights, gradients and the
    optimizer's state by part, what a step takes beside, and main memory. For a model that no engine has cut up yet."""
    found, needs = counts(model, config, inputs), memory(model, config, ranks, inputs)
    lines = [
        f"{part}: {found.total[part] / 1e6:.2f} M parameters, {found.trained[part] / 1e6:.2f} M learn" for part in found.total
    ]
    parts = ", ".join(f"{name} {_told(getattr(needs, name))}" for name in ("weights", "gradients", "optimizer"))
    parts += ", which lies in main memory" if needs.offloaded else ""
    lines.append(f"{needs.kept / GIB:.3f} GiB on each of {ranks} ranks under ZeRO {config.zero_stage}: {parts}")
    if config.compares:
        lines.append(f"a copy of the model as the run begins: {_told(needs.weights)} GiB more of weights on each rank at most")
    for path, size in teachers(config):
        lines.append(
            f"teacher {path}: {size / 1e6:.2f} M parameters, {2 * size / GIB:.3f} GiB more on each rank with a GPU, in bfloat16, "
            f"without one {4 * size / GIB:.3f}"
        )
    gathered = f"{needs.gathered / GIB:.3f} of weights that are whole for a time, " if needs.gathered else ""
    lines.append(f"beside in a step, about: {gathered}{needs.activations / GIB:.3f} of activations")
    lines.append(
        f"host memory of each rank: {needs.loading / GIB:.3f} GiB beside the weights while they load, "
        f"{needs.saving / GIB:.3f} at most for a checkpoint; without a GPU {needs.host / GIB:.3f} GiB at most in all"
    )
    return lines


def _told(by_part: dict[Part, float]) -> str:
    total = f"{sum(by_part.values()) / GIB:.3f}"
    parts = ", ".join(f"{part} {size / GIB:.3f}" for part, size in by_part.items() if size)
    return f"{total} ({parts})" if len(by_part) > 1 else total


def require_room(
    model: PreTrainedModel | PeftModel, config: TrainingConfig, world: World, inputs: FeatureInputs | None = None
) -> None:
    """Raise `ConfigError` on rank 0, before a run's first step, where the disk under its output has no room for a checkpoint."""
    if world.rank:
        return
    found = counts(model, config, inputs)
    learns = sum(found.trained.values())
    weights = learns if config.frozen else sum(found.total.values())  # the frozen rest is a link
    needed = weights * (2 if config.half_weights else 4) + sum(found.kept.values())
    needed += learns * (4 if config.half_weights else 0)
    folder = next(path for path in (config.output, *config.output.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigError(
            f"output: {config.output}: a checkpoint takes {needed / GIB:.3f} GiB, the disk has {free / GIB:.3f} GiB free"
        )


def foretell(config: TrainingConfig, ranks: int) -> list[str]:
    """What the run would do and take on `ranks` ranks, told from the configuration of its backbone and its data: no weight is
    loaded and nothing is trained. Of the first stage, where it has several."""
    first, *rest = stages(config) or [config]
    model = outline(first)
    aside = ["features: their connectors are not counted"] if first.features or first.features_from else []
    return [*map(plan_line, (first, *rest)), *model_lines(model, first, ranks), *aside]


def rehearse(config: TrainingConfig, world: World, train: Callable[[TrainingConfig, World], int]) -> int:
    """Say what the run would do, train the first two steps of its first stage, save a checkpoint, and remove it all again.

    Returns the exit code of `train`.
    """
    first, *rest = stages(config) or [config]
    away = config.output.with_name(f"{config.output.name}.dry-run")
    run = first.run.model_copy(
        update={"log_every": 1, "save_every": REHEARSED, "skip_steps": [], "trackers": [], "profile": None}
    )
    # Losses and samples are rehearsed; a suite may take hours, and a figure of it may be what the best is known by.
    evaluate = first.evaluate and first.evaluate.model_copy(update={"suite": None, "best": None})
    update = {"output": away, "steps": REHEARSED, "run": run, "stages": [], "evaluate": evaluate}
    try:
        if world.rank == 0:
            for stage in (first, *rest):
                print(plan_line(stage))
        code = train(first.model_copy(update=update), world)
        if world.rank == 0 and code == 0:
            checkpoint = away / "checkpoints" / f"step-{REHEARSED:08d}"
            own = sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file() and path.stat().st_nlink == 1)
            print(f"dry run: {peak_memory() / GIB:.2f} GiB at most on rank 0, a checkpoint takes {own / GIB:.3f} GiB")
        return code
    finally:
        if world.rank == 0:
            shutil.rmtree(away, ignore_errors=True)


def plan_line(config: TrainingConfig) -> str:
    """One stage in a line."""
    loader = config.loader
    tokens = config.steps * loader.packs_per_step * loader.pack_tokens
    parts: list[str] = [part for part, factor in config.optimizer.parts.items() if factor == 0]
    if lowest := config.optimizer.frozen_layers:
        parts.append(f"the lowest {lowest} layers")
    frozen = f", frozen: {', '.join(parts)}" if parts else ""
    return (
        f"{config.output}: {config.steps} steps of {loader.packs_per_step} packs of {loader.pack_tokens} tokens, at most "
        f"{tokens / 1e6:.1f} M tokens; {config.optimizer.kind} at {config.optimizer.learning_rate:g}, "
        f"{config.schedule.kind}{frozen}; a checkpoint every {config.run.save_every} steps, {config.run.keep} kept"
    )
