"""Figures with confidence intervals by the bootstrap (Efron 1979): the percentiles of a statistic over resampled items."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mmpt.errors import DataError

DRAWS = 2000
LEVEL = 0.95
Better = Literal["more", "less"]


@dataclass(frozen=True)
class Measure:
    """A figure over `count` items and its 95 % interval; `better` says which way it improves."""

    name: str
    value: float
    low: float
    high: float
    count: int
    better: Better = "more"


def bootstrap(count: int, statistic: Callable[[np.ndarray], float], draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """(low, high) of the middle 95 % of `statistic` over `draws` samples of `count` items, drawn with replacement.

    `statistic` takes the numbers of the items drawn, int64 [count]; samples for which it is not a number are left out.
    """
    # One seed for all: the same results give the same interval, whatever else was measured before them.
    random = np.random.default_rng(seed)
    found = np.array([statistic(random.integers(0, count, count)) for _ in range(draws)])
    found = found[np.isfinite(found)]
    if not len(found):
        return float("nan"), float("nan")
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mean_measure(name: str, values: Sequence[float], better: Better = "more") -> Measure:
    """The mean of `values` and its interval."""
    array = np.asarray(values, dtype=np.float64)
    return measure(name, len(array), lambda chosen: float(array[chosen].mean()), better)


def measure(name: str, count: int, statistic: Callable[[np.ndarray], float], better: Better = "more") -> Measure:
    """`statistic` of all `count` items (it takes their numbers), and its interval over resampled ones. Raises `DataError` where
    there is none."""
    value = _finite(name, count, statistic)
    low, high = bootstrap(count, statistic)
    return Measure(name, value, low, high, count, better)


def whole_measure(name: str, value: float, count: int, better: Better = "more") -> Measure:
    """A figure of a whole set that is no mean over its items, such as the share of codes in use: resampled sets have fewer
    different items, so their figures would all lie on one side of it. Its interval is the value alone."""
    value = _finite(name, count, lambda _: value)
    return Measure(name, value, value, value, count, better)


def _finite(name: str, count: int, statistic: Callable[[np.ndarray], float]) -> float:
    if not count:
        raise DataError(f"{name}: there is no item to measure it on")
    value = statistic(np.arange(count))
    if not math.isfinite(value):
        raise DataError(f"{name}: it is {value} of these {count} items")
    return value
