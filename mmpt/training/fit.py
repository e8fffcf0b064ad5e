"""The training of a tokenizer, or of a stage of one: the trainer, with checkpoints that are resumed and a log of its own.

Batches are a function of the step and every step starts from a seed of its own, so weights, the optimizer's state and the step
number are all there is to save.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mmpt.errors import CheckpointError, ConfigError
from mmpt.tokenizers.codebook_health import codebook_health
from mmpt.tokenizers.terms import CODES, RESTARTS, Trainable
from mmpt.training.background import background
from mmpt.training.checkpoint import newest_checkpoint, publish, restore_training, write_recipe
from mmpt.training.config import FitConfig
from mmpt.training.distributed import World, watched
from mmpt.training.engine import start_engine
from mmpt.training.metrics import Metrics, metrics
from mmpt.training.signals import StopRequest
from mmpt.training.state import weights
from mmpt.training.trainer import Line, StepResult, train

FORMAT = "mmpt-tokenizer-training/1"
COLLAPSED = {"entropy": 0.3, "used": 0.1}
"""Entropy ÷ log(size), and share in use, of the codes of one log line below which the run warns."""
Batches = Callable[[int, int, int], Any]
"""(step from 0, rank, ranks) → this rank's share of the batch of that step."""


def fit(model: Trainable, batches: Batches, config: FitConfig, run: Path, world: World) -> int:
    """Train `model` in place, going on from the newest whole checkpoint of `run`. Returns the signal that ended it early, else 0.

    Parameters that ask for no gradient are frozen. Every `log_every` steps a line in `run`/metrics.jsonl tells the means since
    the last of the terms of the loss, and the health of the codebook over the codes since then; stderr gets a line where it
    collapses. Raises `ConfigError` where the batch does not go into the ranks, `CheckpointError` where the checkpoints are all
    damaged or belong to another model, and `NonFiniteError` where a loss or gradient is not finite.
    """
    if config.batch_size % world.size:
        raise ConfigError(f"batch_size is {config.batch_size}, expected a multiple of the {world.size} ranks")
    stop = StopRequest()
    checkpoint = newest_checkpoint(run, world, FORMAT, config.run.copy_to)
    if checkpoint:
        _load(model, checkpoint / "model.safetensors")
    model.to(world.device).train()
    engine = start_engine(model, config, 1, world)
    first = restore_training(engine, checkpoint)["step"] + 1 if checkpoint else 1

    def save(step: int) -> None:
        tensors = weights(engine, everything=True)
        publish(engine, step, run, config, world, saving, FORMAT, partial(_write, tensors, config))

    with (
        watched(world, config.run.stall_timeout) as world,
        background() as saving,
        metrics(run, config, world, first - 1) as log,
    ):
        steps = ([batches(step - 1, world.rank, world.size)] for step in range(first, config.steps + 1))
        told = _Told(config, log, world)
        stopped = train(engine, steps, first, config, world, log, saving, told, save, lambda: stop.number)
    if not stopped:
        model.eval()
    return stopped


class _Told:
    """What the log is told: at a line, the means over the steps since the last."""

    def __init__(self, config: FitConfig, log: Metrics, world: World) -> None:
        self._config, self._log, self._world = config, log, world
        self._means: dict[str, list[float]] = {}
        self._codes: torch.Tensor | None = None

    def __call__(self, step: int, result: StepResult) -> Line:
        amounts = {"examples": float(self._config.batch_size)}
        means = {name: mean.item() for name, mean in result.means.items() if name not in (CODES, RESTARTS)}
        for name, mean in {**means, "loss": result.loss}.items():
            self._means.setdefault(name, []).append(mean)
        if CODES in result.means:
            found = result.means[CODES]
            self._codes = found if self._codes is None else self._codes + found
        if not self._log.due(step):
            return Line({"loss": result.loss}, amounts)
        figures = {name: sum(values) / len(values) for name, values in self._means.items()}
        figures = {"loss": figures.pop("loss"), **figures}
        if self._codes is not None:
            figures |= {**codebook_health(self._codes), "restarts": int(result.means[RESTARTS])}
            # Fewer codes than there are cannot use the codebook, and say nothing of its health.
            enough = bool(self._codes.sum() >= len(self._codes))
            if self._world.rank == 0 and enough and any(figures[name] < least for name, least in COLLAPSED.items()):
                print(f"step {step}: the codebook collapses: {_collapse(figures)}", file=sys.stderr, flush=True)
        self._means, self._codes = {}, None
        return Line({**figures, "learning_rate": result.learning_rate, "gradient_norm": result.gradient_norm}, amounts)


def _collapse(figures: dict[str, float]) -> str:
    return (
        f"perplexity {figures['perplexity']:.1f}, {figures['used']:.0%} of the codes used, {figures['restarts']} restarts so far"
    )


def _write(tensors: dict[str, torch.Tensor], config: FitConfig, folder: Path) -> None:
    save_file(tensors, folder / "model.safetensors")
    write_recipe(config, folder)


def _load(model: nn.Module, path: Path) -> None:
    try:
        model.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError, FileNotFoundError) as problem:
        raise CheckpointError(f"{path}: saved by another model than the one configured now ({problem})") from None
