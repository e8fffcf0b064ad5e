"""A run with a rank that died or stalled ends, and says which one: a thread on each rank watches the others."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch.distributed as dist
from torch._C._distributed_c10d import Store

EXIT = 70
BEAT = 1.0
DEAD_AFTER = 60.0
"""Seconds without a beat after which a rank that had begun is taken for dead; torchrun notices the end of a process sooner."""


class Watch:
    """`mark` says what this rank is about to do; where no rank has marked anything for `stall` seconds, the run ends."""

    def __init__(self, stall: float) -> None:
        self._stall = stall
        self._marks, self._doing = 0, "starting"
        self._over = threading.Event()

    def mark(self, doing: str) -> None:
        """`doing`: "done" for the last one, behind which the thread ends as soon as all ranks have come that far."""
        self._marks += 1
        self._doing = doing

    def _watch(self, store: Store, rank: int, size: int) -> None:
        beat, seen, since = 0, dict.fromkeys(range(size), ""), dict.fromkeys(range(size), time.monotonic())
        marks, moved = {}, time.monotonic()
        while not self._over.wait(BEAT):
            beat += 1
            own = self._doing
            try:
                store.set(f"watch/{rank}", f"{beat}|{self._marks}|{own}")
                found = {other: store.get(f"watch/{other}").decode() if _has(store, other) else "" for other in range(size)}
            except (RuntimeError, dist.DistError):
                if not self._over.is_set() and self._doing != "done":
                    self._end("rank 0 is gone: the store of the process group does not answer")
                return
            if own == "done" and all(value.endswith("|done") for value in found.values()):
                return
            now = time.monotonic()
            for other, value in found.items():
                if value != seen[other]:
                    seen[other], since[other] = value, now
            done = {other: value.split("|", 2) for other, value in found.items() if value}
            for other, value in found.items():
                if value and now - since[other] > DEAD_AFTER and value.split("|", 2)[-1] != "done":
                    self._end(f"rank {other} has given no sign of life for {DEAD_AFTER:.0f} s; it was {_doing(done, other)}")
            if (current := {other: parts[1:] for other, parts in done.items()}) != marks:
                marks, moved = current, now
            working = {other: int(done[other][1]) if other in done else -1 for other in found}
            working = {other: count for other, count in working.items() if other not in done or done[other][2] != "done"}
            if now - moved > self._stall and working:
                least = min(working.values())
                late = ", ".join(f"rank {other} ({_doing(done, other)})" for other, count in working.items() if count == least)
                self._end(f"nothing has moved for {self._stall:.0f} s; behind the others: {late}")

    def _end(self, reason: str) -> None:
        # The main thread may be inside a collective that never returns: nothing but the end of the process frees it.
        print(f"error: the run is ended: {reason}", file=sys.stderr, flush=True)
        os._exit(EXIT)


@contextmanager
def watching(stall: float | None) -> Iterator[Watch | None]:
    """A `Watch` of the process group while inside; none where there is one rank, or `stall` is None."""
    if stall is None or dist.get_world_size() == 1:
        yield None
        return
    found = Watch(stall)
    store = dist.distributed_c10d._get_default_store()
    given = (cast(Any, store).clone(), dist.get_rank(), dist.get_world_size())
    thread = threading.Thread(target=found._watch, args=given, name="watch", daemon=True)
    thread.start()
    try:
        yield found
        found.mark("done")
        thread.join()  # rank 0 holds the store: it may not leave while another, late with its files, still asks for it
    finally:
        found._over.set()
        thread.join()


def _has(store: Store, rank: int) -> bool:
    return store.check([f"watch/{rank}"])


def _doing(done: dict[int, list[str]], rank: int) -> str:
    return done[rank][2] if rank in done else "starting"
