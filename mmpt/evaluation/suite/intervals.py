"""Confidence intervals by the bootstrap (Efron 1979): the percentiles of a statistic over resampled items."""

from collections.abc import Callable

import numpy as np

DRAWS = 2000
LEVEL = 0.95


def bootstrap(count: int, statistic: Callable[[np.ndarray], float], draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """(low, high) of the middle 95 % of `statistic` over `draws` samples of `count` items, drawn with replacement.

    `statistic` takes the numbers of the items drawn, int64 [count]; samples for which it is not a number are left out.
    """
    random = np.random.default_rng(seed)
    found = np.array([statistic(random.integers(0, count, count)) for _ in range(draws)])
    found = found[np.isfinite(found)]
    if not len(found):
        return float("nan"), float("nan")
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
