"""Questions with short answers."""

from collections.abc import Sequence
from typing import NamedTuple

from mmpt.document import Part
from mmpt.evaluation.benchmarks import Outcome
from mmpt.evaluation.metrics.recognition import normalise


class Question(NamedTuple):
    """What is `asked`, and the answers that are right; `kind`: of several kinds that have figures of their own."""

    item: str
    asked: tuple[Part, ...]
    right: tuple[str, ...]
    kind: str = ""


def outcomes_of(
    questions: Sequence[Question], answers: Sequence[tuple[Part, ...]], said: Sequence[str], scores: Sequence[float]
) -> tuple[Outcome, ...]:
    """What became of each question: its answer, what was read in it, and its score."""
    return tuple(
        Outcome(one.item, one.asked, answer, " / ".join(one.right), got, score)
        for one, answer, got, score in zip(questions, answers, said, scores, strict=True)
    )


def contains(text: str, answers: Sequence[str]) -> bool:
    """Whether one of `answers` stands in `text` as whole words, both normalised."""
    said = f" {normalise(text)} "
    return any(f" {normalise(answer)} " in said for answer in answers if normalise(answer))
