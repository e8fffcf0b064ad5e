"""Where tasks run: in this process, in processes of this machine, or on a Ray cluster. The results are the same."""

import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context

from mmpt.data.engine.task import Job, Task, run_task
from mmpt.data.extra import need
from mmpt.errors import ConfigError, DataError, MmptError

AHEAD = 2
"""Tasks for each worker that are handed out before their turn."""


def run_tasks(job: Job, tasks: list[Task], processes: int, ray: str | None) -> Iterator[tuple[Task, dict]]:
    """Yield each task with its record as soon as it is done, in any order. Raises what the first failing one raised."""
    if ray is not None:
        return _on_ray(job, tasks, ray)
    if processes == 1 or len(tasks) < 2:
        return ((task, run_task(job, task)) for task in tasks)
    return _in_processes(job, tasks, processes)


def _in_processes(job: Job, tasks: list[Task], processes: int) -> Iterator[tuple[Task, dict]]:
    waiting = iter(tasks)
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_begin)
    try:
        running = {pool.submit(_in_child, job, task, os.getpid()): task for task in islice(waiting, AHEAD * processes)}
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                try:
                    yield task, future.result()
                except BrokenProcessPool:
                    raise DataError(
                        f"a worker process ended during task {task.number} or one beside it: out of memory? Fewer processes help"
                    ) from None
                for following in islice(waiting, 1):
                    running[pool.submit(_in_child, job, following, os.getpid())] = following
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """A worker uses one thread, and leaves an interrupt to the process that started it."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _in_child(job: Job, task: Task, parent: int) -> dict:
    if os.getppid() != parent:  # killed: another run may already be at work in the same folder
        os._exit(1)
    return run_task(job, task)


def _on_ray(job: Job, tasks: list[Task], address: str) -> Iterator[tuple[Task, dict]]:
    ray = need("ray")
    _check_reachable(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as problem:
        raise ConfigError(f"ray: no cluster at {address!r} ({problem})") from None
    try:
        remote = ray.remote(num_cpus=1, max_retries=3)(run_task)
        shared = ray.put(job)
        waiting = iter(tasks)
        limit = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        running = {remote.remote(shared, task): task for task in islice(waiting, limit)}
        while running:
            done, _ = ray.wait(list(running), num_returns=1)
            task = running.pop(done[0])
            try:
                yield task, ray.get(done[0])
            except ray.exceptions.RayTaskError as problem:
                cause = problem.cause
                raise (cause if isinstance(cause, MmptError) else problem) from None
            for following in islice(waiting, 1):
                running[remote.remote(shared, following)] = following
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes where nobody listens."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if separator and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as problem:
            raise ConfigError(f"ray: no cluster at {address!r} ({problem})") from None
