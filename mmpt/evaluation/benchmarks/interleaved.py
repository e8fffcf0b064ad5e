"""Interleaved generation, scored by aspect."""

import importlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import pydantic

from mmpt.document import Image, Part, Text
from mmpt.errors import ConfigError, DataError
from mmpt.evaluation.benchmarks import Outcome, Result
from mmpt.evaluation.benchmarks._asking import AskingBenchmark
from mmpt.evaluation.benchmarks._items import first, image_file, items_of, with_images
from mmpt.evaluation.metrics.intervals import mean_measure

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel

ASPECTS = ("text quality", "perceptual quality", "image coherence", "text-image coherence", "helpfulness")
"""Those of the paper, each from 0 to 5."""

Judge = Callable[[Sequence[Part], Sequence[Part], str], float]
"""(what was asked, what was answered, the aspect) → 0 … 5."""


class _Task(NamedTuple):
    item: str
    asked: tuple[Part, ...]
    task: str


class Interleaved(AskingBenchmark):
    """Answers in text and pictures, scored by aspect by a judge of one's own (InterleavedBench, Liu et al. 2024,
    arXiv:2406.14643)."""

    carries: ClassVar[tuple[str, ...]] = ("InterleavedBench / InterleavedEval",)

    file: Path
    """Rows with `id`, `instruction` with `<image>` where its pictures go, `images`, and perhaps `task`."""
    images: Path
    """The folder of the pictures."""
    judge: str | None = None
    """`package.module:function` of a `Judge`, which may ask a model of its own; without one, what can be counted is whether there
    is text, and whether there are pictures: 5 or 0."""
    aspects: tuple[str, ...] = pydantic.Field(default=ASPECTS, min_length=1)
    """What the judge is asked about, each from 0 to 5."""
    max_new_tokens: int = pydantic.Field(default=512, ge=1)
    """Most tokens of an answer, its end included."""

    def run(self, model: "MultimodalModel") -> Result:
        """See `Benchmark.run`: the mean of each aspect, over all and over each task."""
        judge, aspects = (load_judge(self.judge), self.aspects) if self.judge else (presence, ("text", "pictures"))
        missing: list[str] = []
        tasks = first(self._tasks(missing), self.limit)
        answers = self.answers(model, [one.asked for one in tasks], ["text", "image"])
        scores: dict[str, list[float]] = {aspect: [] for aspect in aspects}
        by_task: dict[str, list[float]] = defaultdict(list)
        outcomes = []
        for one, answer in zip(tasks, answers, strict=True):
            own = [_checked(judge(one.asked, answer, aspect), aspect, one.item) for aspect in aspects]
            for aspect, score in zip(aspects, own, strict=True):
                scores[aspect].append(score)
            by_task[one.task].append(sum(own) / len(own))
            said = ", ".join(f"{aspect} {score:g}" for aspect, score in zip(aspects, own, strict=True))
            outcomes.append(Outcome(one.item, one.asked, answer, one.task, said, sum(own) / len(own)))
        measures = [mean_measure(aspect, values) for aspect, values in scores.items()]
        if len(by_task) > 1:
            measures += [mean_measure(f"all aspects, {task}", values) for task, values in sorted(by_task.items())]
        method = f"{self.said()}; judge {self.judge or 'none: only whether text and pictures are there'}; 0 to 5"
        return Result(self.name, method, tuple(measures), tuple(outcomes), tuple(missing))

    def _tasks(self, missing: list[str]) -> Iterator[_Task]:
        def task(item: str, row: dict[str, Any]) -> _Task:
            parts = with_images(row["instruction"], [image_file(self.images, name) for name in row.get("images", [])])
            return _Task(item, self.prompted(*parts), str(row.get("task", "")))

        return items_of(self.file, "id", task, missing)


def presence(asked: Sequence[Part], answered: Sequence[Part], aspect: str) -> float:
    """5 where the answer has text ("text") or a picture ("pictures") at all, else 0."""
    kind = Text if aspect == "text" else Image
    return 5.0 if any(isinstance(part, kind) for part in answered) else 0.0


def load_judge(name: str) -> Judge:
    """The function that `package.module:function` names. Raises `ConfigError` where there is none."""
    module, _, function = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as problem:
        raise ConfigError(f"judge {name!r}: expected package.module:function ({problem})") from None
    if not callable(found):
        raise ConfigError(f"judge {name!r}: it is no function")
    return cast(Judge, found)


def _checked(score: float, aspect: str, item: str) -> float:
    # A judge of somebody else's: what it gives is not trusted to be a number in range.
    if not isinstance(score, int | float) or math.isnan(score) or not 0 <= score <= 5:
        raise DataError(f"{item}: the judge gives {score!r} for {aspect}, expected a number from 0 to 5")
    return float(score)
