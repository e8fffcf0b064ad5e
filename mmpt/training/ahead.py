"""Batches made ahead of the step that asks for them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TypeVar

from mmpt.data.loading.prefetch import prefetch
from mmpt.training.scan import STALL, threads

MOST = 4
"""Threads that make batches; each is up to two batches ahead, and so many batches are in memory."""
B = TypeVar("B")


@contextmanager
def ahead(batches: Callable[[int, int, int], B]) -> Iterator[Callable[[int, int, int], B]]:
    """`batches` (step, rank, ranks), asked for the next steps before they are needed, in threads that end with the context.

    A batch is a function of its step alone, so whoever made it, and when, changes nothing. Where one takes longer than
    `STALL` seconds, `DataError` is raised: a stalled disk ends a run instead of hanging it. What making one raises is raised
    where it is asked for.
    """
    under_way: Iterator[tuple[int, B]] | None = None
    expected: tuple[int, int, int] | None = None

    def begin(first: int, rank: int, ranks: int) -> Iterator[tuple[int, B]]:
        workers = min(MOST, threads())
        return prefetch(count(first), lambda step: batches(step, rank, ranks), workers, STALL, lambda step: f"batch {step}")

    def batch(step: int, rank: int = 0, ranks: int = 1) -> B:
        nonlocal under_way, expected
        # The first step is known only when it is asked for: a run that goes on begins at any.
        if under_way is None or expected != (step, rank, ranks):
            _close(under_way)
            under_way = begin(step, rank, ranks)
        expected = (step + 1, rank, ranks)
        return next(under_way)[1]

    try:
        yield batch
    finally:
        _close(under_way)


def _close(under_way: Iterator | None) -> None:
    if under_way is not None:
        under_way.close()  # pyright: ignore[reportAttributeAccessIssue] (`prefetch` is a generator)
