"""Work done ahead in threads, its results in the order of the tasks, with a watch on how long the next one takes."""

import atexit
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from mmpt.errors import DataError

AHEAD = 2
"""Tasks for each worker that are under way or waiting to be taken."""
PATIENCE = 2.0
"""Seconds that the end of a loop waits for each thread; one that is stalled is left behind."""
_END = object()
T = TypeVar("T")
R = TypeVar("R")


class _Slot:
    def __init__(self) -> None:
        self.done = threading.Event()
        self.task: Any = None
        self.result: Any = _END
        self.error: BaseException | None = None


def prefetch(
    tasks: Iterator[T], work: Callable[[T], R], workers: int, timeout: float | None, describe: Callable[[T], str]
) -> Iterator[tuple[T, R]]:
    """Yield (task, work(task)) in the order of `tasks`, worked on by so many daemon threads; with 0 workers in the caller.

    What `tasks` or `work` raise is raised here in its turn. Where the next result takes longer than `timeout` seconds,
    `DataError` says what `describe` makes of its task: a stalled disk or network ends a run instead of hanging it.
    """
    if workers == 0:
        for task in tasks:
            yield task, work(task)
        return
    order: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
    room, lock, stop = threading.Semaphore(AHEAD * workers), threading.Lock(), threading.Event()

    def run() -> None:
        while True:
            room.acquire()
            if stop.is_set():
                return
            slot = _Slot()
            try:
                with lock:  # places in the order are taken as tasks are, so results come in the order of the tasks
                    order.put(slot)
                    slot.task = next(tasks)
                slot.result = work(slot.task)
            except StopIteration:
                return
            except BaseException as problem:
                slot.error = problem
                return
            finally:
                slot.done.set()

    threads = [threading.Thread(target=run, daemon=True, name=f"mmpt-loader-{number}") for number in range(workers)]

    def end() -> None:
        stop.set()
        for _ in threads:
            room.release()
        for thread in threads:
            thread.join(PATIENCE)

    # A daemon thread that is in the middle of torch's code when the interpreter ends takes the process down with it.
    atexit.register(end)
    for thread in threads:
        thread.start()
    try:
        while True:
            try:
                slot = order.get(timeout=timeout)
            except queue.Empty:
                raise DataError(f"nothing was loaded for {timeout:g} s") from None
            if not slot.done.wait(timeout):
                what = "the next block is planned" if slot.task is None else describe(slot.task)
                raise DataError(f"nothing was loaded for {timeout:g} s: {what}")
            if slot.error is not None:
                raise slot.error
            if slot.result is _END:
                return
            yield slot.task, slot.result
            room.release()
    finally:
        end()
        if not any(thread.is_alive() for thread in threads):
            atexit.unregister(end)
