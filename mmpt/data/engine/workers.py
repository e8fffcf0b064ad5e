"""Where tasks run: in this process, in processes of this machine, or on a Ray cluster. The results are the same."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

from mmpt.data.extra import need
from mmpt.errors import ConfigError, DataError, MmptError

AHEAD = 2
"""Items for each worker that are handed out before their turn."""
T = TypeVar("T")
R = TypeVar("R")


def run_all(work: Callable[[T], R], items: list[T], processes: int, ray: str | None) -> Iterator[tuple[T, R]]:
    """Yield each item with what `work` made of it as soon as it is done, in any order. Raises what the first failing one raised.

    `work` is a function of a module, or a `partial` of one.
    """
    if ray is not None:
        return _on_ray(work, items, ray)
    if processes == 1 or len(items) < 2:
        return ((item, work(item)) for item in items)
    return _in_processes(work, items, processes)


def _in_processes(work: Callable[[T], R], items: list[T], processes: int) -> Iterator[tuple[T, R]]:
    # A few items ahead, not all: an error or an interrupt then leaves little that was begun in vain.
    waiting = iter(items)
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_begin)
    try:
        running = {pool.submit(_in_child, work, item, os.getpid()): item for item in islice(waiting, AHEAD * processes)}
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                item = running.pop(future)
                try:
                    yield item, future.result()
                except BrokenProcessPool:
                    raise DataError("a worker process ended in its work: out of memory? Fewer processes help") from None
                for following in islice(waiting, 1):
                    running[pool.submit(_in_child, work, following, os.getpid())] = following
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """A worker uses one thread, and leaves an interrupt to the process that started it."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _in_child(work: Callable[[T], R], item: T, parent: int) -> R:
    if os.getppid() != parent:  # killed: another run may already be at work in the same folder
        os._exit(1)
    return work(item)


def _on_ray(work: Callable[[T], R], items: list[T], address: str) -> Iterator[tuple[T, R]]:
    ray = need("ray")
    _check_reachable(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as problem:
        raise ConfigError(f"ray: no cluster at {address!r} ({problem})") from None
    try:
        remote = ray.remote(num_cpus=1, max_retries=3)(_on_worker)
        shared = ray.put(work)
        waiting = iter(items)
        limit = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        running = {remote.remote(shared, item): item for item in islice(waiting, limit)}
        while running:
            done, _ = ray.wait(list(running), num_returns=1)
            item = running.pop(done[0])
            try:
                yield item, ray.get(done[0])
            except ray.exceptions.RayTaskError as problem:
                cause = problem.cause
                raise (cause if isinstance(cause, MmptError) else problem) from None
            for following in islice(waiting, 1):
                running[remote.remote(shared, following)] = following
    finally:
        ray.shutdown()


def _on_worker(work: Callable[[T], R], item: T) -> R:
    return work(item)


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes where nobody listens."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if separator and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as problem:
            raise ConfigError(f"ray: no cluster at {address!r} ({problem})") from None
