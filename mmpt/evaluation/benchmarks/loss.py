"""The loss on token shards that the model did not learn from, with intervals."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmpt.data.shards.read import TokenShards
from mmpt.document import Text
from mmpt.evaluation.benchmarks import Benchmark, Outcome, Result
from mmpt.evaluation.benchmarks._items import first
from mmpt.evaluation.metrics.intervals import Measure, measure
from mmpt.evaluation.metrics.loss import document_losses
from mmpt.vocabulary import MODALITIES

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel


class Loss(Benchmark):
    """Σ weight · nll / Σ weight in nats a token, weighted as in training, of all targets and of those of each modality:
    perplexity (Jelinek et al. 1977) without its exponential."""

    folder: Path
    """Token shards of the model's vocabulary."""

    def run(self, model: "MultimodalModel") -> Result:
        """See `Benchmark.run`. Raises `VocabularyError` where the ids mean other things than the model's."""
        vocabulary = model.tokenizer.vocabulary
        documents = first(iter(TokenShards(self.folder, vocabulary)), self.limit)
        sums, weights = document_losses(model.model, vocabulary, documents)
        measures = [_mean("loss", sums.sum(axis=1), weights.sum(axis=1))]
        learned = [index for index in range(len(MODALITIES)) if weights[:, index].any()]
        if len(learned) > 1:
            measures += [_mean(f"loss, {MODALITIES[index]}", sums[:, index], weights[:, index]) for index in learned]
        means = sums.sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-12)
        outcomes = tuple(
            Outcome(one.id, (), (Text(f"{len(one.ids)} tokens"),), "", f"{mean:.3f} nats a token", -float(mean))
            for one, mean in zip(documents, means, strict=True)
        )
        return Result(self.name, "nats a target, weighted as in training; each document alone", tuple(measures), outcomes)


def _mean(name: str, sums: np.ndarray, weights: np.ndarray) -> Measure:
    def ratio(chosen: np.ndarray) -> float:
        total = weights[chosen].sum()
        return float(sums[chosen].sum() / total) if total else float("nan")

    return measure(name, len(sums), ratio, "less")
