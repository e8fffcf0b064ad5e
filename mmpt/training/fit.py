"""The training loop of the modality tokenizers: one process, resumable to the bit, metrics as JSON lines.

Batches are a function of the step and every step starts from a seed of its own, so weights, optimiser state and the step
number are all there is to save.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from rich.progress import Progress
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mmpt.config import Schema
from mmpt.errors import CheckpointError, TrainingError
from mmpt.storage import check_folder, published_folder

FORMAT = "mmpt-fit/1"


class Trainable(Protocol):
    """What `fit` asks of a model, which must be an `nn.Module` too."""

    def training_step(self, batch: object, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss (scalar, differentiable) and figures to log; `progress` runs from 0 to 1 over the training."""


class FitConfig(Schema):
    """AdamW with linear warm-up and cosine decay to a tenth; gradients clipped to norm 1."""

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 100
    weight_decay: float = 0.01
    save_every: int = 200
    log_every: int = 20
    seed: int = 0


def fit(
    model: nn.Module, batches: Callable[[int], object], config: FitConfig, folder: Path, progress: Progress, title: str
) -> None:
    """Train `model` in place for `config.steps` steps of `batches(step)`, going on from `folder`/state where that exists.

    Appends one JSON object for each `log_every` steps to `folder`/metrics.jsonl. Raises `CheckpointError` where the saved state
    is damaged or belongs to another model, `TrainingError` on a loss that is not finite.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
    )
    first = _load(model, optimizer, folder / "state") if (folder / "state").exists() else 0
    log = _keep_lines(folder / "metrics.jsonl", first)
    task = progress.add_task(title, total=config.steps, completed=first)
    model.train()
    figures: list[dict[str, float]] = []
    began = time.monotonic()
    with open(log, "a", encoding="utf-8") as file:
        for step in range(first, config.steps):
            torch.manual_seed(config.seed * 1_000_003 + step)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * _schedule(step, config)
            loss, values = model.training_step(batches(step), step / config.steps)
            if not torch.isfinite(loss):
                raise TrainingError(f"{title}: the loss is {float(loss)} at step {step}; the last state saved is whole: {folder}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            figures.append({"loss": float(loss.detach()), **values})
            progress.advance(task)
            if (step + 1) % config.log_every == 0 or step + 1 == config.steps:
                means = {
                    name: sum(f[name] for f in figures if name in f) / sum(name in f for f in figures) for name in figures[-1]
                }
                file.write(json.dumps({"step": step + 1, "seconds": round(time.monotonic() - began, 2), **means}) + "\n")
                file.flush()
                figures.clear()
            if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
                _save(model, optimizer, folder / "state", step + 1)
    model.eval()


def _schedule(step: int, config: FitConfig) -> float:
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    return warm * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / config.steps)))


def _save(model: nn.Module, optimizer: torch.optim.AdamW, folder: Path, step: int) -> None:
    names = {parameter: name for name, parameter in model.named_parameters()}
    moments = {f"{names[p]}::{key}": value for p, state in optimizer.state.items() for key, value in state.items()}
    with published_folder(folder, {"format": FORMAT, "step": step}) as temporary:
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, temporary / "model.safetensors")
        save_file({name: value.contiguous() for name, value in moments.items()}, temporary / "optimizer.safetensors")


def _load(model: nn.Module, optimizer: torch.optim.AdamW, folder: Path) -> int:
    manifest = check_folder(folder, FORMAT)
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
        moments = load_file(folder / "optimizer.safetensors")
    except (RuntimeError, SafetensorError) as problem:
        raise CheckpointError(f"{folder}: saved by another model than the one configured now ({problem})") from None
    parameters = dict(model.named_parameters())
    for key, value in moments.items():
        name, _, field = key.rpartition("::")
        optimizer.state[parameters[name]][field] = value
    return manifest["step"]


def _keep_lines(path: Path, steps: int) -> Path:
    """Drop logged lines past the step that training goes on from."""
    if path.exists():
        lines = [
            line
            for line in path.read_text(encoding="utf-8").splitlines()
            if line.endswith("}") and json.loads(line)["step"] <= steps
        ]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
