"""Questions about several pictures at once."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pydantic

from mmpt.evaluation.benchmarks import Result
from mmpt.evaluation.benchmarks._asking import AskingBenchmark, text_of
from mmpt.evaluation.benchmarks._items import first, image_file, items_of, with_images
from mmpt.evaluation.benchmarks._questions import Question, outcomes_of
from mmpt.evaluation.metrics.intervals import mean_measure
from mmpt.evaluation.metrics.recognition import same_text

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel


class MultiImage(AskingBenchmark):
    """Questions about several pictures (Mantis-Eval, Jiang et al. 2024, arXiv:2405.01483): right where the letter of the answer
    is the first that is named, or the short answer is what was said."""

    carries: ClassVar[tuple[str, ...]] = ("MANTIS (interleaved multi-image instruction tuning)",)

    file: Path
    """JSON or JSON lines with `id`, `question_type` (`multi-choice` or `short-answer`), `question` with `<image>` where pictures
    go, `images`, `options` and `answer`."""
    images: Path
    """The folder of the pictures."""
    max_new_tokens: int = pydantic.Field(default=64, ge=1)
    """Most tokens of an answer, its end included."""

    def run(self, model: "MultimodalModel") -> Result:
        """See `Benchmark.run`: the share of right answers, of all and of each type of question."""
        missing: list[str] = []
        questions = first(self._questions(missing), self.limit)
        answers = self.answers(model, [one.asked for one in questions], ["text"])
        said = [text_of(answer) for answer in answers]
        scores = [
            float(letter_of(got) == one.right[0] if one.kind == "multi-choice" else same_text(got, one.right[0]))
            for one, got in zip(questions, said, strict=True)
        ]
        measures = [mean_measure("accuracy", scores)]
        for kind in sorted({one.kind for one in questions}):
            own = [score for one, score in zip(questions, scores, strict=True) if one.kind == kind]
            measures.append(mean_measure(f"accuracy, {kind}", own))
        outcomes = outcomes_of(questions, answers, said, scores)
        return Result(self.name, f"{self.said()}; exact match", tuple(measures), outcomes, tuple(missing))

    def _questions(self, missing: list[str]) -> Iterator[Question]:
        def question(item: str, row: dict[str, Any]) -> Question:
            images, text = [image_file(self.images, name) for name in row["images"]], row["question"]
            if row["question_type"] == "multi-choice":
                text += "".join(f"\n({'ABCDEFGH'[n]}) {option}" for n, option in enumerate(row["options"]))
            return Question(item, self.prompted(*with_images(text, images)), (row["answer"],), row["question_type"])

        return items_of(self.file, "id", question, missing)


def letter_of(text: str) -> str:
    """The first option that an answer names, "" where there is none: "(B)", "B.", "B" or "answer: b"."""
    # A small letter counts only where it stands alone or after "answer": "a dog" is no option A.
    found = re.search(r"\(([A-Ha-h])\)|\b([A-H])\b|^\W*([a-h])\W*$|answer(?:\s+is)?\W+([A-Ha-h])\b", text)
    return next((group.upper() for group in found.groups() if group), "") if found else ""
