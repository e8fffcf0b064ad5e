"""Yes or no about objects in a picture."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic

from mmpt.document import Text
from mmpt.errors import DataError
from mmpt.evaluation.benchmarks import Result
from mmpt.evaluation.benchmarks._asking import AskingBenchmark, text_of
from mmpt.evaluation.benchmarks._items import first, image_file, items_of
from mmpt.evaluation.benchmarks._questions import Question, outcomes_of
from mmpt.evaluation.metrics.intervals import Measure, measure

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel


class Probing(AskingBenchmark):
    """Yes or no about objects in a picture (POPE, Li et al. 2023, arXiv:2305.10355), read as POPE reads it: an answer whose first
    sentence has "no" or "not" is a no, any other a yes."""

    file: Path
    """JSON lines with `question_id`, `image`, `text` and `label`."""
    images: Path
    """The folder of the pictures."""
    max_new_tokens: int = pydantic.Field(default=32, ge=1)
    """Most tokens of an answer, its end included."""

    def run(self, model: "MultimodalModel") -> Result:
        """See `Benchmark.run`: accuracy, precision, recall and F1 of yes, and the share of yes, as POPE reports them."""
        missing: list[str] = []
        questions = first(self._questions(missing), self.limit)
        answers = self.answers(model, [one.asked for one in questions], ["text"])
        said = ["no" if is_no(text_of(answer)) else "yes" for answer in answers]
        scores = [float(got == one.right[0]) for one, got in zip(questions, said, strict=True)]
        yes, wanted = np.array([got == "yes" for got in said]), np.array([one.right[0] == "yes" for one in questions])
        outcomes, method = outcomes_of(questions, answers, said, scores), f"{self.said()}, read by POPE's rule"
        return Result(self.name, method, binary_measures(yes, wanted), outcomes, tuple(missing))

    def _questions(self, missing: list[str]) -> Iterator[Question]:
        def question(item: str, row: dict[str, Any]) -> Question:
            if row["label"] not in ("yes", "no"):
                raise DataError(f"label is {row['label']!r}")
            picture = image_file(self.images, row["image"])
            return Question(item, self.prompted(picture, Text(row["text"])), (row["label"],))

        return items_of(self.file, "question_id", question, missing)


def is_no(text: str) -> bool:
    """Whether an answer counts as no, by POPE's rule."""
    words = text.partition(".")[0].replace(",", "").lower().split()
    return "no" in words or "not" in words


def binary_measures(yes: np.ndarray, wanted: np.ndarray) -> tuple[Measure, ...]:
    """Accuracy, precision, recall, F1 and the share of yes, of what was said and what was `wanted`, both bool [questions]."""

    def share(top: np.ndarray, of: np.ndarray) -> float:
        return float(top.sum() / of.sum()) if of.sum() else 0.0

    def f1(chosen: np.ndarray) -> float:
        precision, recall = (share((yes & wanted)[chosen], side[chosen]) for side in (yes, wanted))
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    count = len(yes)
    return (
        measure("accuracy", count, lambda chosen: float((yes == wanted)[chosen].mean())),
        measure("precision", count, lambda chosen: share((yes & wanted)[chosen], yes[chosen])),
        measure("recall", count, lambda chosen: share((yes & wanted)[chosen], wanted[chosen])),
        measure("F1", count, f1),
        measure("share of yes", count, lambda chosen: float(yes[chosen].mean())),
    )
