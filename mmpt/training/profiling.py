"""Some steps of a run under torch's profiler: RUN/profile/rank-0.json.gz, a trace for Perfetto, and a table."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

from mmpt.storage import write_bytes
from mmpt.training.distributed import World
from mmpt.training.metrics import Metrics
from mmpt.training.run_config import ProfileConfig

ROWS = 40
T = TypeVar("T")


@contextmanager
def profiled(
    batches: Iterable[T], first: int, config: ProfileConfig | None, run: Path, world: World, log: Metrics
) -> Iterator[Iterable[T]]:
    """`batches`, of which the first is that of step `first`; each rank's files are written when those of the last recorded step
    are done with, also where the run ends before."""
    if config is None:
        yield batches
        return
    watched = _watched(batches, first, config, run / "profile", world, log)
    try:
        yield watched
    finally:
        watched.close()


def _watched(batches: Iterable[T], first: int, config: ProfileConfig, out: Path, world: World, log: Metrics):
    recording: Any = None
    try:
        for step, given in enumerate(batches, start=first):
            if step == config.first:
                on_gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
                recording = profile(activities=[ProfilerActivity.CPU, *on_gpu], record_shapes=True, profile_memory=True)
                recording.start()
            yield given
            if step == config.first + config.steps - 1 and recording is not None:
                with log.aside():
                    _write(recording, out, world.rank)
                recording = None
    finally:
        if recording is not None:
            _write(recording, out, world.rank)


def _write(recording: Any, out: Path, rank: int) -> None:
    recording.stop()
    out.mkdir(parents=True, exist_ok=True)
    recording.export_chrome_trace(str(out / f"rank-{rank}.json.gz"))
    by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    table = recording.key_averages().table(sort_by=by, row_limit=ROWS, max_name_column_width=80)
    write_bytes(out / f"rank-{rank}.txt", table.encode())
