"""The training loop of the modality tokenizers, under DeepSpeed: the checkpoints, the resuming and the metrics of the recipes.

Batches are a function of the step and every step starts from a seed of its own, so weights, the optimizer's state and the step
number are all there is to save.
"""

import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mmpt.errors import CheckpointError, ConfigError
from mmpt.tokenizers.codebook_health import code_counts, codebook_health
from mmpt.tokenizers.terms import StepOutput
from mmpt.training.background import background
from mmpt.training.checkpoint import newest_checkpoint, publish, restore_training, write_recipe
from mmpt.training.config import FitConfig
from mmpt.training.distributed import World
from mmpt.training.engine import mixes, start_engine
from mmpt.training.metrics import metrics
from mmpt.training.schedules import learning_rate
from mmpt.training.signals import StopRequest
from mmpt.training.state import weights
from mmpt.training.step import NonFiniteError, seed_step, update

FORMAT = "mmpt-tokenizer-training/1"
COLLAPSED = {"entropy": 0.3, "used": 0.1}
"""Entropy ÷ log(size), and share in use, of the codes of one log line below which the run warns."""
Batches = Callable[[int, int, int], object]
"""(step from 0, rank, ranks) → this rank's share of the batch of that step."""


class Trainable(Protocol):
    """What `fit` asks of a model, which must be an `nn.Module` too."""

    def training_step(self, batch: object, progress: float) -> StepOutput:
        """Terms of the loss of a batch; `progress` runs from 0 to 1 over the training."""


class _Step(nn.Module):
    """What DeepSpeed wraps: a batch in, the terms of its loss out."""

    def __init__(self, model: nn.Module, mixed: bool) -> None:
        super().__init__()
        self.model, self.mixed = model, mixed

    def forward(self, batch: object, progress: float, device: torch.device) -> StepOutput:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.mixed):
            return self.model.training_step(batch, progress)


def fit(model: nn.Module, batches: Batches, config: FitConfig, run: Path, world: World) -> int:
    """Train `model` in place, going on from the newest whole checkpoint of `run`. Returns the signal that ended it early, else 0.

    Parameters that ask for no gradient rest. Every `log_every` steps a line in `run`/metrics.jsonl tells the means since the last
    of the terms of the loss, and the health of the codebook over the codes since then; stderr gets a line where it collapses.
    Raises `ConfigError` where the batch does not go into the ranks, `CheckpointError` where the checkpoints are all damaged or
    belong to another model, and `NonFiniteError` where a loss or gradient is not finite.
    """
    if config.batch_size % world.size:
        raise ConfigError(f"batch_size is {config.batch_size}, expected a multiple of the {world.size} ranks")
    stop = StopRequest()
    checkpoint = newest_checkpoint(run, world, FORMAT)
    if checkpoint:
        _load(model, checkpoint / "model.safetensors")
    model.to(world.device).train()
    engine = start_engine(_Step(model, mixes(config, world)), config, 1)
    first = restore_training(engine, checkpoint)["step"] if checkpoint else 0
    gathered = _Gathered()
    with background() as saving, metrics(run, config, world, first) as log:
        for step in range(first + 1, config.steps + 1):
            seed_step(config.seed, step, world.rank)
            rate = learning_rate(step, config)
            for group in engine.optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            output = engine(batches(step - 1, world.rank, world.size), (step - 1) / config.steps, world.device)
            stopped = _backward(engine, output, gathered, step, world, stop.number)
            norm = update(engine, config)
            if norm is None:
                raise NonFiniteError(f"step {step}: the gradient is not finite; no weight was changed")
            figures = {"loss": gathered.loss}
            if log.due(step):
                figures = {**gathered.line(world), "learning_rate": rate, "gradient_norm": norm}
                if world.rank == 0 and gathered.enough and any(figures[name] < least for name, least in COLLAPSED.items()):
                    print(f"step {step}: the codebook collapses: {_collapse(figures)}", file=sys.stderr, flush=True)
                gathered = _Gathered()
            log.log(step, figures, {"examples": config.batch_size})
            saving.check()
            if step % config.save_every == 0 or step == config.steps or stopped:
                tensors = weights(engine, everything=True)
                publish(engine, step, run, config, world, saving, FORMAT, partial(_write, tensors, config))
            if stopped:
                return stopped
    model.eval()
    return 0


class _Gathered:
    """What the steps since the last line gave, over all ranks."""

    def __init__(self) -> None:
        self.loss = 0.0
        self.means: dict[str, list[float]] = {}
        self.counts: torch.Tensor | None = None
        self.restarts = 0

    @property
    def enough(self) -> bool:
        """Whether as many codes were given as there are: fewer cannot use the codebook, and say nothing of its health."""
        return self.counts is not None and bool(self.counts.sum() >= len(self.counts))

    def line(self, world: World) -> dict[str, float]:
        """Means of the terms, and the codebook's health."""
        means = {name: sum(values) / len(values) for name, values in self.means.items()}
        loss = means.pop("loss")
        if self.counts is None:
            return {"loss": loss, **means}
        return {"loss": loss, **means, **codebook_health(world.sum(self.counts)), "restarts": self.restarts}


def _backward(engine, output: StepOutput, gathered: _Gathered, step: int, world: World, stop: int) -> int:
    """The gradient of Σ weight · Σ total ÷ Σ count over all ranks, noted in `gathered`. Returns the signal that any rank got."""
    terms = output.terms
    sums = torch.tensor([[float(term.total.detach()), float(term.count)] for term in terms.values()], dtype=torch.float64)
    asked = torch.zeros(world.size, 2, dtype=torch.float64)
    asked[world.rank, 0] = stop
    found = world.sum(torch.cat([sums, asked]).to(world.device)).cpu()
    sums, asked = found[: len(terms)], found[len(terms) :]
    counts = sums[:, 1].clamp_min(1.0).tolist()
    # DeepSpeed averages gradients over ranks.
    loss = sum(term.weight * world.size / count * term.total for term, count in zip(terms.values(), counts, strict=True))
    engine.backward(loss)
    means = {name: total / count for name, (total, _), count in zip(terms, sums.tolist(), counts, strict=True)}
    gathered.loss = sum(terms[name].weight * mean for name, mean in means.items())
    if not math.isfinite(gathered.loss):
        raise NonFiniteError(f"step {step}: the loss is {gathered.loss} ({means}); no weight was changed")
    for name, mean in {**means, "loss": gathered.loss}.items():
        gathered.means.setdefault(name, []).append(mean)
    if output.used:
        counted = code_counts(output.used.codes, output.used.size)
        gathered.counts = counted if gathered.counts is None else gathered.counts + counted
        gathered.restarts = output.used.restarts
    return int(asked.max())


def _collapse(figures: dict) -> str:
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
