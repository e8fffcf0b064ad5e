"""Has a model seen a text in training? Min-K % Prob (Shi et al. 2023, arXiv:2310.16789)."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pydantic

from mmpt.document import Text
from mmpt.errors import DataError
from mmpt.evaluation.likelihood import area_under_curve, token_scores
from mmpt.evaluation.suite.base import Benchmark, Measure, Outcome, Result, first
from mmpt.evaluation.suite.intervals import bootstrap
from mmpt.evaluation.suite.questions import json_rows

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel


class MembershipConfig(Benchmark):
    """Texts as WikiMIA has them: JSON lines with `input` and `label` (1: seen). `share`: the part of a text's tokens, the least
    likely ones, whose mean ln p is its score."""

    kind: Literal["membership"]
    file: Path
    share: float = pydantic.Field(default=0.2, gt=0, le=1)
    false_positives: float = pydantic.Field(default=0.05, gt=0, lt=1)


def run(config: MembershipConfig, model: "MultimodalModel") -> Result:
    """Area under the ROC curve, and true positives at so many false ones, with intervals over resampled texts of each label."""
    missing: list[str] = []
    rows = []
    for number, row in enumerate(first(iter(json_rows(config.file)), config.limit)):
        if row.get("label") not in (0, 1) or not isinstance(row.get("input"), str):
            missing.append(f"{number}: expected input and label 0 or 1")
        else:
            rows.append((str(number), row["input"], row["label"]))
    begin = model.tokenizer.vocabulary.special("<|begin|>")
    sequences = [[begin, *ids] for (ids,) in model.tokenizer.encode([[Text(text)] for _, text, _ in rows])]
    scores = np.array([min_k(found.log_probability, config.share) for found in token_scores(model, sequences)])
    labels = np.array([label for *_, label in rows])
    positive, negative = scores[labels == 1], scores[labels == 0]
    if not len(positive) or not len(negative):
        raise DataError(f"{config.file}: expected texts of both labels")

    def interval(statistic) -> tuple[float, float]:
        def resampled(chosen: np.ndarray) -> float:  # the numbers of one draw serve both labels
            return statistic(positive[chosen[: len(positive)] % len(positive)], negative[chosen[len(positive) :] % len(negative)])

        return bootstrap(len(rows), resampled)

    def caught(seen: np.ndarray, unseen: np.ndarray) -> float:
        return true_positives(seen, unseen, config.false_positives)

    measures = (
        Measure("AUROC", area_under_curve(positive, negative), *interval(area_under_curve), len(rows)),
        Measure(f"true positives at {config.false_positives:g} false", caught(positive, negative), *interval(caught), len(rows)),
    )
    middle = float(np.median(scores))
    outcomes = tuple(
        Outcome(item, (Text(text),), (), "seen" if label else "unseen", f"{score:.3f}", float((score > middle) == bool(label)))
        for (item, text, label), score in zip(rows, scores, strict=True)
    )
    method = f"mean ln p of the {config.share:.0%} least likely tokens"
    return Result(config.name, method, measures, outcomes, tuple(missing))


def min_k(log_probabilities: np.ndarray, share: float) -> float:
    """Mean of the `share` smallest (at least one) of ln p [tokens]."""
    if not len(log_probabilities):
        return 0.0
    return float(np.sort(log_probabilities)[: max(1, int(len(log_probabilities) * share))].mean())


def true_positives(positive: np.ndarray, negative: np.ndarray, false_positives: float) -> float:
    """The share of `positive` scores above the bar that at most `false_positives` of the `negative` ones pass."""
    allowed = int(np.floor(false_positives * len(negative)))
    bar = np.sort(negative)[::-1][allowed]
    return float((positive > bar).mean())
