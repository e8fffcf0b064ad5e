"""What every benchmark of a suite has in common: a configuration, figures with intervals, and examples to look at."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmpt.config import Schema
from mmpt.document import Image, Part, Speech, Text
from mmpt.errors import DataError
from mmpt.evaluation.suite.intervals import bootstrap
from mmpt.media import decode_image, decode_speech

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel

BATCH = 32


class Benchmark(Schema):
    """`name` stands for it in results; `limit`: only so many items, from the front."""

    name: str
    limit: int | None = None


@dataclass(frozen=True)
class Measure:
    """A figure over `count` items and its 95 % interval; `better` is "more" or "less"."""

    name: str
    value: float
    low: float
    high: float
    count: int
    better: str = "more"


@dataclass(frozen=True)
class Outcome:
    """One item: what was `asked`, what was `answered`, what was `expected` and what was `found` in the answer, in words, and its
    `score`, of which more is better."""

    item: str
    asked: tuple[Part, ...]
    answered: tuple[Part, ...]
    expected: str
    found: str
    score: float


@dataclass(frozen=True)
class Result:
    """Of one benchmark; `method` says in a sentence how it was done, `missing` which items could not be had and why."""

    name: str
    method: str
    measures: tuple[Measure, ...]
    outcomes: tuple[Outcome, ...]
    missing: tuple[str, ...] = ()


def mean_measure(name: str, values: Sequence[float], better: str = "more") -> Measure:
    """The mean of `values` and its interval."""
    array = np.asarray(values, dtype=np.float64)
    return measure(name, len(array), lambda chosen: float(array[chosen].mean()), better)


def measure(name: str, count: int, statistic: Callable[[np.ndarray], float], better: str = "more") -> Measure:
    """`statistic` of all `count` items (it takes their numbers), and its interval over resampled ones. Raises `DataError` where
    there is none."""
    if not count:
        raise DataError(f"{name}: there is no item to measure it on")
    value = statistic(np.arange(count))
    if not math.isfinite(value):
        raise DataError(f"{name}: it is {value} of these {count} items")
    low, high = bootstrap(count, statistic)
    return Measure(name, value, low, high, count, better)


def ask(model: "MultimodalModel", prompts: Sequence[Sequence[Part]], **settings) -> Iterator[tuple[Part, ...]]:
    """The parts that answer each prompt, in order."""
    for start in range(0, len(prompts), BATCH):
        yield from (answer.parts for answer in model.answer(prompts[start : start + BATCH], **settings))


def text_of(answer: Sequence[Part]) -> str:
    """The text of an answer, other parts left out."""
    return " ".join(part.text for part in answer if isinstance(part, Text)).strip()


def first(items: Iterator, limit: int | None) -> list:
    """The first `limit` of them, all where it is None."""
    return list(items if limit is None else islice(items, limit))


def image_file(folder: Path, name: str) -> Image:
    """A picture of a benchmark. Raises `DataError` where it is missing, damaged, or outside `folder`."""
    data = read_inside(folder, name)
    picture = decode_image(data)
    return Image(data, Path(name).suffix[1:].lower() or "png", picture.width, picture.height)


def speech_file(folder: Path, name: str) -> Speech:
    """A sound of a benchmark; raises as `image_file` does."""
    data = read_inside(folder, name)
    samples = decode_speech(data)
    return Speech(data, Path(name).suffix[1:].lower() or "wav", 16_000, len(samples) / 16_000)


def read_inside(folder: Path, name: str) -> bytes:
    """The bytes of a file in `folder`. Raises `DataError` where there is none, or `name` leads out of it."""
    path = (Path(folder) / name).resolve()
    if not path.is_relative_to(Path(folder).resolve()):
        raise DataError(f"{name}: it leads out of {folder}")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    return path.read_bytes()
