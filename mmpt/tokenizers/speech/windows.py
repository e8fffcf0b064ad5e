"""Audio of any length, in windows that overlap by as much as a code depends on, so that every code is made once and as if the
audio had been taken whole."""

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Context:
    """What a code depends on besides its own span of audio.

    `left`: codes before it. `right`: samples after it (after its block, where codes come in blocks). `block`: codes become final
    in runs of this length, counted from the beginning of the audio. `grid`: windows begin on multiples of it, less `left`, where
    the encoder knows absolute positions and so depends on where a window begins; None where it does not.
    """

    left: int
    right: int
    block: int
    grid: int | None = None

    def start(self, code: int) -> int:
        """The first code of the window in which `code` is made."""
        if self.grid is None:
            return max(0, (code - self.left) // self.block * self.block)
        return max(0, code // self.grid * self.grid - self.left)

    def run(self, code: int, last: int) -> int:
        """The end of the codes from `code` on, at most `last`, that one window makes."""
        return last if self.grid is None else min(last, (code // self.grid + 1) * self.grid)


@dataclass(frozen=True)
class Window:
    """Samples `start` … `end` of the audio make its codes `first` … `last`, and those before `first` in the window, which are not
    wanted, from the code `origin` on."""

    start: int
    end: int
    origin: int
    first: int
    last: int


def window_for(first: int, last: int, total: int, samples_per_code: int, context: Context) -> Window:
    """The window that makes the codes `first` … `last` of audio of `total` samples."""
    origin = context.start(first)
    end = min(total, math.ceil((last * samples_per_code + context.right) / samples_per_code) * samples_per_code)
    return Window(origin * samples_per_code, end, origin, first, last)


def windows(total: int, samples_per_code: int, size: int, context: Context) -> Iterator[Window]:
    """Windows of at most about `size` codes of their own for all codes of `total` samples, in order."""
    count = max(1, math.ceil(total / samples_per_code))
    step = context.grid or max(context.block, size // context.block * context.block)
    for first in range(0, count, step):
        yield window_for(first, min(first + step, count), total, samples_per_code, context)


def code_windows(count: int, size: int, reach: tuple[int, int], block: int) -> Iterator[Window]:
    """Windows of at most about `size` codes of their own for `count` codes that are decoded: `start` … `end` in codes, with as
    many more before and after (of the block) as what is decoded depends on, `reach`."""
    step = max(block, size // block * block)
    for first in range(0, count, step):
        last = min(first + step, count)
        origin = max(0, first - reach[0]) // block * block
        yield Window(origin, min(count, last + reach[1]), origin, first, last)
