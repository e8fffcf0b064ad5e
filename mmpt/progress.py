"""One look for every progress bar: what, how much, how long it took, how long it will take."""

import sys
import time
from datetime import timedelta

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

COUNTED = 1_000_000
"""A total above it is of bytes, and told in percent."""
LOG_SECONDS = 20.0
"""Where nobody watches a terminal, a task is told of so often."""


def progress_bars() -> Progress:
    """A rich `Progress` with counts, time spent and time left; lines of text where stderr or stdout goes into a file."""
    if not sys.stdout.isatty():
        return LoggedProgress()
    return Progress(
        TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=12, table_column=Column(min_width=12)),
        AmountColumn(table_column=Column(min_width=9, no_wrap=True, justify="right")),
        TimeElapsedColumn(table_column=Column(min_width=7, no_wrap=True)),
        TextColumn("left", table_column=Column(min_width=4, no_wrap=True)),
        TimeRemainingColumn(table_column=Column(min_width=7, no_wrap=True)),
        expand=True,
        refresh_per_second=2,  # drawing costs CPU time that the work beside it needs
    )


class AmountColumn(ProgressColumn):
    """How much is done."""

    def render(self, task: Task) -> Text:
        return Text(amount(task, "/"), style="progress.download")


def amount(task: Task, of: str) -> str:
    """`3/10`, or in percent where the total is of bytes."""
    if task.total is None:
        return f"{task.completed:.0f}"
    return f"{task.percentage:.0f} %" if task.total > COUNTED else f"{task.completed:.0f}{of}{task.total:.0f}"


class LoggedProgress(Progress):
    """The same calls, told as lines of a log: when a task begins, every `LOG_SECONDS`, and when it ends."""

    def __init__(self) -> None:
        super().__init__(disable=True)
        self._told: dict[TaskID, float] = {}

    def add_task(self, description: str, *args, **kwargs) -> TaskID:
        task = super().add_task(description, *args, **kwargs)
        self._tell(task)
        return task

    def update(self, task_id: TaskID, *args, **kwargs) -> None:
        super().update(task_id, *args, **kwargs)
        self._tell_now_and_then(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._tell_now_and_then(task_id)

    def _tell_now_and_then(self, task: TaskID) -> None:
        finished, told = self._tasks[task].finished, self._told.get(task)
        if told is not None and (finished or time.monotonic() - told >= LOG_SECONDS):
            self._tell(task)
            if finished:
                del self._told[task]  # once

    def _tell(self, task: TaskID) -> None:
        self._told[task] = time.monotonic()
        found = self._tasks[task]
        times = "" if not found.completed else f", {_clock(found.elapsed)}"
        if found.completed and not found.finished and found.time_remaining is not None:
            times += f", {_clock(found.time_remaining)} left"
        print(f"{found.description}: {amount(found, ' of ')}{times}", flush=True)


def _clock(seconds: float | None) -> str:
    return str(timedelta(seconds=round(seconds or 0)))
