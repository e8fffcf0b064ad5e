"""Text benchmarks of lm-evaluation-harness."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from mmpt.document import Text
from mmpt.errors import ConfigError
from mmpt.evaluation.benchmarks import Benchmark, Outcome, Result
from mmpt.evaluation.metrics.intervals import Measure

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel

NORMAL_95 = 1.96
"""Standard errors to each side that hold 95 % of a normal distribution."""


class LmEval(Benchmark):
    """Tasks of lm-evaluation-harness (EleutherAI/lm-evaluation-harness, Biderman et al. 2024, arXiv:2405.14782), asked and scored
    by it: everything starts with `<|begin|>`, and only text is written."""

    tasks: list[str] = pydantic.Field(min_length=1)
    """Names of tasks or groups of them, such as hellaswag."""
    include: Path | None = None
    """A folder of task files of one's own."""
    num_fewshot: int | None = pydantic.Field(default=None, ge=0)
    """Examples before each question; by default as many as the task says."""

    def run(self, model: "MultimodalModel") -> Result:
        """See `Benchmark.run`: every metric of every task, with the harness's standard errors as intervals."""
        from mmpt.evaluation.harness import HarnessModel, evaluate

        found = evaluate(HarnessModel(model), self.tasks, self.include, self.num_fewshot, self.limit)
        outcomes = tuple(outcome for task, samples in found["samples"].items() for outcome in _outcomes(task, samples))
        measures = tuple(_measures(found))
        if not measures:
            raise ConfigError(f"{self.name}: {', '.join(self.tasks)} gave no figure")
        versions = ", ".join(f"{task} {version}" for task, version in found["versions"].items())
        method = f"lm-evaluation-harness, versions of its tasks: {versions}; intervals of 1.96 standard errors"
        return Result(self.name, method, measures, outcomes)


def _measures(found: dict[str, Any]) -> Iterator[Measure]:
    for task, values in found["results"].items():
        count = found["n-samples"].get(task, {}).get("effective", 0)
        for key, value in values.items():
            # "acc,none": the metric, and the filter that its answers went through.
            metric, _, chosen = key.partition(",")
            if not chosen or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = values.get(f"{metric}_stderr,{chosen}")
            reach = NORMAL_95 * error if isinstance(error, int | float) else 0.0
            name = f"{task} {metric}" + ("" if chosen == "none" else f" ({chosen})")
            better = "more" if found["higher_is_better"].get(task, {}).get(metric, True) else "less"
            yield Measure(name, float(value), float(value - reach), float(value + reach), count, better)


def _outcomes(task: str, samples: list[dict[str, Any]]) -> Iterator[Outcome]:
    for sample in samples:
        scores = [float(sample[name]) for name in sample["metrics"] if isinstance(sample.get(name), int | float)]
        asked = Text(str(next(iter(sample["arguments"]), ("",))[0]))
        found = str(sample["filtered_resps"])
        yield Outcome(f"{task}/{sample['doc_id']}", (asked,), (), str(sample["target"]), found, scores[0] if scores else 0.0)
