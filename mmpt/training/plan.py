"""What a run is going to do, in words and numbers: its parts, the memory they take, its stages; and a rehearsal of it."""

import shutil
from collections import Counter
from collections.abc import Callable

from peft import PeftModel
from transformers import PreTrainedModel

from mmpt.errors import ConfigError
from mmpt.model.feature_inputs import FeatureInputs, named_weights
from mmpt.training.config import FinetuneConfig, TrainingConfig
from mmpt.training.distributed import World
from mmpt.training.metrics import peak_memory
from mmpt.training.parts import part_of
from mmpt.training.stages import stages

REHEARSED = 2
GIB = 2**30


def model_lines(
    model: PreTrainedModel | PeftModel, config: TrainingConfig, world: World, inputs: FeatureInputs | None = None
) -> list[str]:
    """Parameters by part, and the bytes that weights, gradients and AdamW's state take on each rank under the run's ZeRO stage;
    activations come on top. For a model that no engine has cut up yet."""
    total, trained = _counts(model, config, inputs)
    lines = [f"{part}: {total[part] / 1e6:.2f} M parameters, {trained[part] / 1e6:.2f} M learn" for part in total]
    everything, learns, stage = sum(total.values()), sum(trained.values()), config.zero_stage
    half = bool(config.deepspeed.get("bf16", {}).get("enabled"))
    weight = 2 if half else 4
    master = 4 if half else 0
    share = [1 / world.size if stage >= least else 1.0 for least in (3, 2, 1)]
    sizes = [everything * weight * share[0], learns * weight * share[1], learns * (8 + master) * share[2]]
    parts = ", ".join(f"{name} {size / GIB:.3f}" for name, size in zip(("weights", "gradients", "optimizer"), sizes, strict=True))
    return [*lines, f"{sum(sizes) / GIB:.3f} GiB on each of {world.size} ranks under ZeRO {stage}: {parts}; activations beside"]


def require_room(
    model: PreTrainedModel | PeftModel, config: TrainingConfig, world: World, inputs: FeatureInputs | None = None
) -> None:
    """Raise `ConfigError` on rank 0, before a run's first step, where the disk under its output has no room for a checkpoint."""
    if world.rank:
        return
    total, trained = (sum(numbers.values()) for numbers in _counts(model, config, inputs))
    half = bool(config.deepspeed.get("bf16", {}).get("enabled"))
    weights = trained if isinstance(config, FinetuneConfig) else total  # the frozen rest is a link
    state = (4 if config.optimizer == "muon" else 8) + (4 if half else 0)
    needed = weights * (2 if half else 4) + trained * state
    folder = next(path for path in (config.output, *config.output.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigError(
            f"output: {config.output}: a checkpoint takes {needed / GIB:.3f} GiB, the disk has {free / GIB:.3f} GiB free"
        )


def _counts(model: PreTrainedModel | PeftModel, config: TrainingConfig, inputs: FeatureInputs | None) -> tuple[Counter, Counter]:
    """Parameters by part: (all, those that learn)."""
    total, trained = Counter(), Counter()
    for name, parameter in named_weights(model, inputs):
        total[part_of(name)] += parameter.numel()
        if parameter.requires_grad and config.parts.get(part_of(name), 1.0) > 0:
            trained[part_of(name)] += parameter.numel()
    return total, trained


def rehearse(config: TrainingConfig, world: World, train: Callable[[TrainingConfig, World], int]) -> int:
    """Say what the run would do, train the first two steps of its first stage, save a checkpoint, and remove it all again.

    Returns the exit code of `train`.
    """
    first, *rest = list(stages(config)) or [config]
    away = config.output.with_name(f"{config.output.name}.dry-run")
    update = {"output": away, "steps": REHEARSED, "log_every": 1, "save_every": REHEARSED, "stages": [], "skip_steps": []}
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
    tokens = config.steps * config.packs_per_step * config.pack_tokens
    rests = [part for part, factor in config.parts.items() if factor == 0]
    resting = f", at rest: {', '.join(rests)}" if rests else ""
    return (
        f"{config.output}: {config.steps} steps of {config.packs_per_step} packs of {config.pack_tokens} tokens, at most "
        f"{tokens / 1e6:.1f} M tokens; learning rate {config.learning_rate:g}, {config.schedule}{resting}; a checkpoint every "
        f"{config.save_every} steps, {config.keep} kept"
    )
