"""When a loss is a spike: a stated rule, so that two people who read the log agree."""

import statistics
from collections import deque

WINDOW, LEAST, FACTOR = 100, 20, 8.0


class Spikes:
    """A loss is a spike where it is more than `FACTOR` robust standard deviations (1.4826 times the median absolute deviation)
    above the median of the last `WINDOW` losses that were none; from the `LEAST`-th loss on. `LEAST` of them in a row are none: the
    loss has come to stand higher, as where another term joins it, and what follows is compared with them."""

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._in_a_row: list[float] = []

    def check(self, loss: float) -> str:
        """What to say of a spike, "" where there is none."""
        if len(self._losses) >= LEAST:
            median = statistics.median(self._losses)
            deviation = 1.4826 * statistics.median(abs(one - median) for one in self._losses)
            if loss > median + FACTOR * deviation:
                self._in_a_row.append(loss)
                if len(self._in_a_row) == LEAST:
                    self._losses = deque(self._in_a_row, WINDOW)
                    self._in_a_row.clear()
                    return ""
                return f"loss {loss:.4f}, median of the last {len(self._losses)}: {median:.4f}, deviation {deviation:.4f}"
        self._losses.append(loss)
        self._in_a_row.clear()
        return ""
