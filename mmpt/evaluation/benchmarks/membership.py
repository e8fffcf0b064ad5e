"""Has a model seen a text in training?"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import pydantic

from mmpt.document import Text
from mmpt.errors import DataError
from mmpt.evaluation.benchmarks import Benchmark, Outcome, Result
from mmpt.evaluation.benchmarks._items import first, items_of, json_rows
from mmpt.evaluation.metrics.intervals import Measure, bootstrap
from mmpt.evaluation.metrics.likelihood import area_under_curve, token_scores

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel


class _Row(NamedTuple):
    item: str
    text: str
    seen: bool


class Membership(Benchmark):
    """Whether texts were seen in training, by the mean ln p of their least likely tokens (Min-K % Prob, Shi et al. 2023,
    arXiv:2310.16789), or calibrated by how frequent tokens are elsewhere (DC-PDD, Zhang et al. 2024, arXiv:2409.14781)."""

    carries: ClassVar[tuple[str, ...]] = (
        "Min-K% Prob (detecting pre-training data) / WIKIMIA",
        "DC-PDD (divergence-based calibration for pretraining-data detection)",
    )

    file: Path
    """Texts as WikiMIA has them: JSON lines with `input` and `label` (1: seen)."""
    share: float = pydantic.Field(default=0.2, gt=0, le=1)
    """The part of a text's tokens, the least likely ones, whose mean ln p is its score."""
    reference: Path | None = None
    """JSON lines with `text`, a corpus that says how frequent tokens are; with it, texts are scored as DC-PDD does."""
    ceiling: float = pydantic.Field(default=0.01, gt=0)
    """With `reference`: the most that one token adds to a score."""
    false_positives: float = pydantic.Field(default=0.05, gt=0, lt=1)
    """At what share of false positives the true ones are counted."""

    def run(self, model: "MultimodalModel") -> Result:
        """See `Benchmark.run`: area under the ROC curve, and true positives at so many false ones, with intervals over resampled
        texts of each label."""
        missing: list[str] = []
        rows = self._rows(missing)
        vocabulary = model.tokenizer.vocabulary
        begin = vocabulary.special("<|begin|>")
        sequences = [[begin, *ids] for (ids,) in model.tokenizer.encode([[Text(one.text)] for one in rows])]
        found = token_scores(model.model, vocabulary, sequences)
        if self.reference is None:
            scores = np.array([min_k(one.log_probability, self.share) for one in found])
            method = f"mean ln p of the {self.share:.0%} least likely tokens"
        else:
            frequency = self._frequency(self.reference, model, missing)
            pairs = zip(sequences, found, strict=True)
            scores = np.array([calibrated(ids[1:], one.log_probability, frequency, self.ceiling) for ids, one in pairs])
            method = f"mean of −p · ln f of first occurrences, f by {self.reference.name}"
        seen = np.array([one.seen for one in rows])
        positive, negative = scores[seen], scores[~seen]
        if not len(positive) or not len(negative):
            raise DataError(f"{self.file}: expected texts of both labels")

        def caught(positive: np.ndarray, negative: np.ndarray) -> float:
            return true_positives(positive, negative, self.false_positives)

        measures = tuple(
            Measure(name, statistic(positive, negative), *_interval(positive, negative, statistic), len(rows))
            for name, statistic in (
                ("AUROC", area_under_curve),
                (f"true positives at {self.false_positives:g} false", caught),
            )
        )
        middle = float(np.median(scores))
        outcomes = tuple(
            Outcome(
                one.item,
                (Text(one.text),),
                (),
                "seen" if one.seen else "unseen",
                f"{score:.4g}",
                float((score > middle) == one.seen),
            )
            for one, score in zip(rows, scores, strict=True)
        )
        return Result(self.name, method, measures, outcomes, tuple(missing))

    def _frequency(self, path: Path, model: "MultimodalModel", missing: list[str]) -> np.ndarray:
        """Of each text token, its share of the tokens of the reference, each counted once more than it is there: float64."""
        texts = items_of(path, "id", lambda item, row: str(row["text"]), missing)
        counts = np.ones(model.tokenizer.vocabulary.text_size)
        for (ids,) in model.tokenizer.encode([[Text(text)] for text in texts]):
            counts += np.bincount(ids, minlength=len(counts))[: len(counts)]
        return counts / counts.sum()

    def _rows(self, missing: list[str]) -> list[_Row]:
        rows = []
        for number, row in enumerate(first(iter(json_rows(self.file)), self.limit)):
            if row.get("label") not in (0, 1) or not isinstance(row.get("input"), str):
                missing.append(f"{number}: expected input and label 0 or 1")
            else:
                rows.append(_Row(str(number), row["input"], row["label"] == 1))
        return rows


def _interval(
    positive: np.ndarray, negative: np.ndarray, statistic: Callable[[np.ndarray, np.ndarray], float]
) -> tuple[float, float]:
    count = len(positive)

    def resampled(chosen: np.ndarray) -> float:
        # One draw of all texts serves both labels: its front part, wrapped to each label's own number, so that neither label
        # is ever empty in a sample.
        return statistic(positive[chosen[:count] % count], negative[chosen[count:] % len(negative)])

    return bootstrap(count + len(negative), resampled)


def min_k(log_probabilities: np.ndarray, share: float) -> float:
    """Mean of the `share` smallest (at least one) of ln p [tokens]."""
    if not len(log_probabilities):
        return 0.0
    return float(np.sort(log_probabilities)[: max(1, int(len(log_probabilities) * share))].mean())


def calibrated(ids: Sequence[int], log_probabilities: np.ndarray, frequency: np.ndarray, ceiling: float) -> float:
    """Mean over the first occurrence of each of `ids` [tokens] of min(−p · ln frequency, `ceiling`): the cross-entropy between
    what the model expects and what is common anyhow, token by token (arXiv:2409.14781, equations 5 to 8)."""
    _, first = np.unique(np.asarray(ids, dtype=np.int64), return_index=True)
    if not len(first):
        return 0.0
    crossed = -np.exp(log_probabilities[first]) * np.log(frequency[np.asarray(ids)[first]])
    return float(np.minimum(crossed, ceiling).mean())


def true_positives(positive: np.ndarray, negative: np.ndarray, false_positives: float) -> float:
    """The share of `positive` scores above the bar that at most `false_positives` of the `negative` ones pass."""
    allowed = int(np.floor(false_positives * len(negative)))
    bar = np.sort(negative)[::-1][allowed]
    return float((positive > bar).mean())
