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
from mmpt.training.config import TrainingConfig
from mmpt.training.distributed import World
from mmpt.training.step import StepResult

FILE = "metrics.jsonl"


class Metrics:
    """Writes a line for every `log_every`-th step and shows the progress. Does nothing on ranks other than 0."""

    def __init__(self, config: TrainingConfig, world: World, resumed_step: int, progress: Progress | None) -> None:
        self._config = config
        self._active = world.rank == 0
        self._progress = progress
        self._tokens, self._steps, self._since = 0, 0, time.perf_counter()
        if self._active:
            config.output.mkdir(parents=True, exist_ok=True)
            truncate(config.output / FILE, resumed_step)
            if progress is not None:
                self._task = progress.add_task("training", total=config.steps, completed=resumed_step)

    def log(self, step: int, result: StepResult) -> None:
        """Take note of a step. Speed (tokens/s over all ranks, seconds a step) is the mean since the last line."""
        if not self._active:
            return
        self._tokens += result.tokens
        self._steps += 1
        summary = f"loss {result.loss:.4f}"
        if self._progress is not None:
            self._progress.update(self._task, completed=step, description=summary)
        if step % self._config.log_every and step != self._config.steps:
            return
        seconds = time.perf_counter() - self._since
        line = {
            "step": step,
            "loss": result.loss,
            "nll": result.nll,
            "tokens_per_second": self._tokens / seconds,
            "learning_rate": result.learning_rate,
            "gradient_norm": result.gradient_norm,
            "seconds": seconds / self._steps,
            "fill": result.tokens / (self._config.packs_per_step * self._config.pack_tokens),
        }
        with open(self._config.output / FILE, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
        if self._progress is None:
            left = math.ceil((self._config.steps - step) * line["seconds"])
            speed = f"{line['tokens_per_second']:.0f} tokens/s"
            print(f"step {step}/{self._config.steps}  {summary}  {speed}  {left} s left", flush=True)
        self._tokens, self._steps, self._since = 0, 0, time.perf_counter()


@contextmanager
def metrics(config: TrainingConfig, world: World, resumed_step: int) -> Iterator[Metrics]:
    """`Metrics` for the steps after `resumed_step`: a live bar with the time left on a terminal, plain lines elsewhere."""
    if world.rank or not sys.stdout.isatty():
        yield Metrics(config, world, resumed_step, None)
        return
    with progress_bars() as progress:
        yield Metrics(config, world, resumed_step, progress)


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
