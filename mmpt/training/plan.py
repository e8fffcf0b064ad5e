"""What a run is going to do, in words and numbers: its parts, the memory they take, its stages; and a rehearsal of it."""

import math
import shutil
from collections import Counter
from collections.abc import Callable

from peft import PeftModel
from transformers import PreTrainedModel

from mmpt.errors import ConfigError
from mmpt.model.feature_inputs import FeatureInputs, named_weights
from mmpt.model.forward import causal_lm
from mmpt.training.config import TrainingConfig
from mmpt.training.distributed import World
from mmpt.training.metrics import peak_memory
from mmpt.training.parts import Part, part_of
from mmpt.training.stages import stages

REHEARSED = 2
GIB = 2**30


def model_lines(
    model: PreTrainedModel | PeftModel, config: TrainingConfig, world: World, inputs: FeatureInputs | None = None
) -> list[str]:
    """Parameters by part, and the bytes that weights, gradients and the optimizer's state take on each rank under the run's ZeRO
    stage; activations come on top. For a model that no engine has cut up yet."""
    total, trained, kept = _counts(model, config, inputs)
    lines = [f"{part}: {total[part] / 1e6:.2f} M parameters, {trained[part] / 1e6:.2f} M learn" for part in total]
    everything, learns, stage = sum(total.values()), sum(trained.values()), config.zero_stage
    weight, master = (2, 4) if config.half_weights else (4, 0)
    share = [1 / world.size if stage >= least else 1.0 for least in (3, 2, 1)]
    sizes = [everything * weight * share[0], learns * weight * share[1], (4 * kept + learns * master) * share[2]]
    parts = ", ".join(f"{name} {size / GIB:.3f}" for name, size in zip(("weights", "gradients", "optimizer"), sizes, strict=True))
    return [*lines, f"{sum(sizes) / GIB:.3f} GiB on each of {world.size} ranks under ZeRO {stage}: {parts}; activations beside"]


def require_room(
    model: PreTrainedModel | PeftModel, config: TrainingConfig, world: World, inputs: FeatureInputs | None = None
) -> None:
    """Raise `ConfigError` on rank 0, before a run's first step, where the disk under its output has no room for a checkpoint."""
    if world.rank:
        return
    total, trained, kept = _counts(model, config, inputs)
    learns = sum(trained.values())
    weights = learns if config.frozen else sum(total.values())  # the frozen rest is a link
    needed = weights * (2 if config.half_weights else 4) + 4 * kept + learns * (4 if config.half_weights else 0)
    folder = next(path for path in (config.output, *config.output.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigError(
            f"output: {config.output}: a checkpoint takes {needed / GIB:.3f} GiB, the disk has {free / GIB:.3f} GiB free"
        )


def _counts(
    model: PreTrainedModel | PeftModel, config: TrainingConfig, inputs: FeatureInputs | None
) -> tuple[Counter[Part], Counter[Part], int]:
    """(parameters by part, those that learn, numbers that the optimizer keeps of them)."""
    total, trained, kept = Counter(), Counter(), 0
    optimizer, apart = config.optimizer, config.optimizer.apart(causal_lm(model))
    for name, parameter in named_weights(model, inputs):
        total[part_of(name)] += parameter.numel()
        if parameter.requires_grad and optimizer.parts.get(part_of(name), 1.0) > 0:
            trained[part_of(name)] += parameter.numel()
            kept += sum(map(math.prod, optimizer.state(parameter.shape, id(parameter) in apart).values()))
    return total, trained, kept


def rehearse(config: TrainingConfig, world: World, train: Callable[[TrainingConfig, World], int]) -> int:
    """Say what the run would do, train the first two steps of its first stage, save a checkpoint, and remove it all again.

    Returns the exit code of `train`.
    """
    first, *rest = stages(config) or [config]
    away = config.output.with_name(f"{config.output.name}.dry-run")
    run = first.run.model_copy(update={"log_every": 1, "save_every": REHEARSED, "skip_steps": []})
    update = {"output": away, "steps": REHEARSED, "run": run, "stages": []}
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
    parts = [part for part, factor in config.optimizer.parts.items() if factor == 0]
    frozen = f", frozen: {', '.join(parts)}" if parts else ""
    return (
        f"{config.output}: {config.steps} steps of {loader.packs_per_step} packs of {loader.pack_tokens} tokens, at most "
        f"{tokens / 1e6:.1f} M tokens; {config.optimizer.kind} at {config.optimizer.learning_rate:g}, "
        f"{config.schedule.kind}{frozen}; a checkpoint every {config.run.save_every} steps, {config.run.keep} kept"
    )
