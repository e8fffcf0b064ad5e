"""Benchmarks: each asks a model in its own way and gives figures with intervals and examples to look at.

    benchmarks: [{kind: recognition, name: test-clean, source: {kind: librispeech, folder: data/test-clean}}]

A benchmark's `version` stands beside its figures; who changes what it measures counts it up, and a suite that goes on measures
again what has another one.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pydantic

from mmpt.document import Part
from mmpt.evaluation.metrics.intervals import Measure
from mmpt.methods import Method

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel


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
    """Of one benchmark; `method` says in a sentence how it was done, `missing` which items could not be had and why, `counts` how
    often each code of a tokenizer was used, where that was measured."""

    name: str
    method: str
    measures: tuple[Measure, ...]
    outcomes: tuple[Outcome, ...]
    missing: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()


class Benchmark(Method):
    """What is asked of a model, and how its answers are scored."""

    key: ClassVar[str] = "benchmarks"
    version: ClassVar[int] = 1
    """Of what it measures: figures of different versions do not compare."""

    name: str
    """What stands for it in results, unique in a suite."""
    limit: int | None = pydantic.Field(default=None, ge=1)
    """Only so many items, from the front; by default all."""

    @abstractmethod
    def run(self, model: "MultimodalModel") -> Result:
        """Measure `model`. Raises `MmptError` where the data or the model lack what it takes."""
