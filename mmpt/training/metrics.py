"""What a run says while it runs: RUN/metrics.jsonl, and a progress bar or plain lines."""

import json
import math
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
from rich.progress import Progress

from mmpt.data.loading.packing import PackedBatch
from mmpt.errors import ConfigError
from mmpt.progress import progress_bars
from mmpt.storage import room_for, write_bytes
from mmpt.training.config import TrainerConfig, TrainingConfig
from mmpt.training.distributed import World
from mmpt.training.flops import peak_flops
from mmpt.training.language_model import by_modality, targets
from mmpt.training.spikes import Spikes
from mmpt.training.trainer import Line, NonFiniteError, StepResult
from mmpt.vocabulary import Vocabulary

FILE, SPIKES, SKIPPED = "metrics.jsonl", "spikes.jsonl", "skipped.jsonl"
TOLD = ("next_token", "router_balance")
"""Terms that the log tells under other names: the loss, and the balance."""
T = TypeVar("T")


class Metrics:
    """Writes a line for every `log_every`-th step to `run`/metrics.jsonl, every spike of the loss (see `Spikes`) to
    `run`/spikes.jsonl, every step without an update to `run`/skipped.jsonl, and shows the progress; only on rank 0. The lines
    count spikes and skipped steps since the start. With a `vocabulary`, the batches are packs, and a line has `codebook_used`:
    the share of all codes of a modality that rank 0 has read since the last line."""

    def __init__(
        self,
        run: Path,
        config: TrainerConfig,
        world: World,
        resumed_step: int,
        progress: Progress | None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        self._run, self._config, self._world = run, config, world
        self._active = world.rank == 0
        self._progress, self._board = progress, None
        self._spikes, self._count, self._skipped = Spikes(), 0, 0
        self._amounts: dict[str, float] = {}
        self._steps, self._since, self._waited = 0, time.perf_counter(), 0.0
        self._vocabulary = vocabulary
        self._used = np.zeros(vocabulary.size if vocabulary else 0, dtype=bool)
        peak = peak_flops(world.device)
        self._peak = None if peak is None else peak * world.size
        if self._active:
            run.mkdir(parents=True, exist_ok=True)
            truncate(run / FILE, resumed_step)
            truncate(run / SPIKES, resumed_step)
            truncate(run / SKIPPED, resumed_step)
            if config.run.tensorboard:
                self._board = _board(run / "tensorboard", resumed_step)
            if progress is not None:
                self._task = progress.add_task("training", total=config.steps, completed=resumed_step)

    def due(self, step: int) -> bool:
        """Whether `log` will write a line for this step."""
        return step % self._config.run.log_every == 0 or step == self._config.steps

    def log(self, step: int, figures: dict, amounts: dict[str, float]) -> None:
        """Take note of a step: its `figures`, with at least `loss`, and `amounts` of work over all ranks, such as tokens.

        What is written of `amounts` is NAME_per_second; that and `seconds` a step are means since the last line.
        """
        if not self._active:
            return
        self._amounts = {name: self._amounts.get(name, 0.0) + amount for name, amount in amounts.items()}
        self._steps += 1
        if spike := self._spikes.check(figures["loss"]):
            self._count += 1
            print(f"step {step}: the loss spikes: {spike}", file=sys.stderr, flush=True)
            self._append(SPIKES, {"step": step, "loss": figures["loss"], "why": spike})
        summary = f"loss {figures['loss']:.4f}"
        if self._progress is not None:
            self._progress.update(self._task, completed=step, description=summary)
        if not self.due(step):
            return
        seconds = time.perf_counter() - self._since
        speeds = {f"{name}_per_second": amount / seconds for name, amount in self._amounts.items()}
        line = {"step": step, **figures, **speeds, "seconds": seconds / self._steps, "data_seconds": self._waited / self._steps}
        line |= {"spikes": self._count, "skipped": self._skipped}
        line |= self._codebooks()
        if self._peak and "tflop_per_second" in speeds:
            line |= {
                "mfu": speeds["tflop_per_second"] * 1e12 / self._peak,
                "mfu_full": speeds["tflop_full_per_second"] * 1e12 / self._peak,
            }
        self._append(FILE, line)
        if self._progress is None:
            left = math.ceil((self._config.steps - step) * line["seconds"])
            name, amount = next(iter(self._amounts.items()))
            speed = f"{amount / seconds:.0f} {name}/s"
            print(f"step {step}/{self._config.steps}  {summary}  {speed}  {left} s left", flush=True)
        self._board_line(step, line)
        self._amounts, self._steps, self._since, self._waited = {}, 0, time.perf_counter(), 0.0

    def skip(self, step: int, problem: NonFiniteError) -> NonFiniteError:
        """Take note of a step that changed nothing, and why. Raises `problem` again where that is one more than `max_skipped`."""
        self._skipped += 1
        if self._skipped > self._config.run.max_skipped:
            raise problem
        if self._active:
            print(f"skipped: {problem}", file=sys.stderr, flush=True)
            self._append(SKIPPED, {"step": step, "why": str(problem)})
        return problem

    def _append(self, name: str, line: dict) -> None:
        with room_for(self._run / name), open(self._run / name, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def waiting(self, batches: Iterable[T]) -> Iterator[T]:
        """`batches`, and the seconds spent waiting for them: `data_seconds` a step."""
        source = iter(batches)
        while True:
            self._world.mark("waiting for data")
            start = time.perf_counter()
            try:
                found = next(source)
            except StopIteration:
                return
            self._waited += time.perf_counter() - start
            if self._vocabulary is not None:
                for batch in cast(Iterable[PackedBatch], found):
                    self._used[batch.input_ids.numpy()] = True
            yield found

    def _codebooks(self) -> dict[str, dict[str, float]]:
        if self._vocabulary is None:
            return {}
        spans = {name: self._vocabulary.ranges()[name] for name in ("image", "speech")}
        found = {name: float(self._used[first:last].mean()) for name, (first, last) in spans.items() if first < last}
        self._used[:] = False
        return {"codebook_used": found}

    def _board_line(self, step: int, line: dict) -> None:
        if self._board is not None:
            for name, value in _flat(line):
                self._board.add_scalar(name, value, step)
            self._board.flush()

    def close(self) -> None:
        """Nothing more will be logged."""
        if self._board is not None:
            self._board.close()


@contextmanager
def metrics(
    run: Path, config: TrainerConfig, world: World, resumed_step: int, vocabulary: Vocabulary | None = None
) -> Iterator[Metrics]:
    """`Metrics` for the steps after `resumed_step`: a live bar with the time left on a terminal, plain lines elsewhere."""
    with ExitStack() as stack:
        progress = None if world.rank or not sys.stdout.isatty() else stack.enter_context(progress_bars())
        found = Metrics(run, config, world, resumed_step, progress, vocabulary)
        stack.callback(found.close)
        yield found


def language_model_line(result: StepResult, config: TrainingConfig) -> Line:
    """What the log is told of a step of a language model.

    Figures: `balance` stands there for a mixture of experts that learns it, other terms under their own names, `fill` is the
    share of the packs that tokens take, `memory_gib` the most that this process has held so far (on a GPU, of its memory).
    Amounts: tokens, and the targets of each modality, and TFLOP.
    """
    packs, tokens = config.loader.packs_per_step * config.loader.pack_tokens, result.amounts["tokens"]
    balance = result.means.get("router_balance")
    figures = {
        "loss": result.loss,
        **({"balance": balance.item()} if balance is not None else {}),
        **{name: mean.item() for name, mean in result.means.items() if mean.ndim == 0 and name not in TOLD},
        "nll": by_modality(result, "nll"),
        "accuracy": by_modality(result, "accuracy"),
        "learning_rate": result.learning_rate,
        "gradient_norm": result.gradient_norm,
        "fill": tokens / packs,
        "memory_gib": peak_memory() / 2**30,
    }
    counted = {f"{name}_targets": float(count) for name, count in targets(result).items()}
    flops = {"tflop": result.amounts["flops"] / 1e12, "tflop_full": result.amounts["flops_full"] / 1e12}
    return Line(figures, {"tokens": tokens, **counted, **flops})


def peak_memory() -> int:
    """Bytes that this process has held at most: on the GPU where there is one, else in main memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _board(folder: Path, resumed_step: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError("tensorboard: true needs the package tensorboard (pip install mmpt[tensorboard])") from None
    return SummaryWriter(str(folder), purge_step=resumed_step + 1)


def _flat(line: dict, prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in line.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        elif name != "step":
            yield prefix + name, value


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
