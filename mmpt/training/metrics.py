"""What a run says while it runs: RUN/metrics.jsonl, and a progress bar or plain lines."""

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import Progress

from mmpt.progress import progress_bars
from mmpt.storage import write_bytes
from mmpt.training.config import OptimizationConfig, TrainingConfig
from mmpt.training.distributed import World
from mmpt.training.step import StepResult

FILE = "metrics.jsonl"


class Metrics:
    """Writes a line for every `log_every`-th step to `run`/metrics.jsonl and shows the progress; only on rank 0."""

    def __init__(self, run: Path, config: OptimizationConfig, world: World, resumed_step: int, progress: Progress | None) -> None:
        self._run, self._config = run, config
        self._active = world.rank == 0
        self._progress = progress
        self._amounts: dict[str, float] = {}
        self._steps, self._since = 0, time.perf_counter()
        if self._active:
            run.mkdir(parents=True, exist_ok=True)
            truncate(run / FILE, resumed_step)
            if progress is not None:
                self._task = progress.add_task("training", total=config.steps, completed=resumed_step)

    def due(self, step: int) -> bool:
        """Whether `log` will write a line for this step."""
        return step % self._config.log_every == 0 or step == self._config.steps

    def log(self, step: int, figures: dict, amounts: dict[str, float]) -> None:
        """Take note of a step: its `figures`, with at least `loss`, and `amounts` of work over all ranks, such as tokens.

        What is written of `amounts` is NAME_per_second; that and `seconds` a step are means since the last line.
        """
        if not self._active:
            return
        self._amounts = {name: self._amounts.get(name, 0.0) + amount for name, amount in amounts.items()}
        self._steps += 1
        summary = f"loss {figures['loss']:.4f}"
        if self._progress is not None:
            self._progress.update(self._task, completed=step, description=summary)
        if not self.due(step):
            return
        seconds = time.perf_counter() - self._since
        speeds = {f"{name}_per_second": amount / seconds for name, amount in self._amounts.items()}
        line = {"step": step, **figures, **speeds, "seconds": seconds / self._steps}
        with open(self._run / FILE, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
        if self._progress is None:
            left = math.ceil((self._config.steps - step) * line["seconds"])
            speed = ", ".join(f"{amount / seconds:.0f} {name}/s" for name, amount in self._amounts.items())
            print(f"step {step}/{self._config.steps}  {summary}  {speed}  {left} s left", flush=True)
        self._amounts, self._steps, self._since = {}, 0, time.perf_counter()


@contextmanager
def metrics(run: Path, config: OptimizationConfig, world: World, resumed_step: int) -> Iterator[Metrics]:
    """`Metrics` for the steps after `resumed_step`: a live bar with the time left on a terminal, plain lines elsewhere."""
    if world.rank or not sys.stdout.isatty():
        yield Metrics(run, config, world, resumed_step, None)
        return
    with progress_bars() as progress:
        yield Metrics(run, config, world, resumed_step, progress)


def step_figures(result: StepResult, config: TrainingConfig) -> dict:
    """What a line says of a step of a language model; `fill` is the share of the packs that tokens take."""
    return {
        "loss": result.loss,
        "nll": result.nll,
        "accuracy": result.accuracy,
        "learning_rate": result.learning_rate,
        "gradient_norm": result.gradient_norm,
        "fill": result.tokens / (config.packs_per_step * config.pack_tokens),
    }


def truncate(path: Path, step: int) -> None:
    """Drop the lines after `step`, and a last line that was cut short: the run goes on from there."""
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            if not line.endswith(b"\n") or json.loads(line)["step"] > step:
                break
        except (ValueError, KeyError, TypeError):
            break
        kept.append(line)
    write_bytes(path, b"".join(kept))
