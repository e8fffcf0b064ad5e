"""The loss on token shards that the model did not learn from, with intervals."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mmpt.data.shards.read import TokenShards
from mmpt.document import Text
from mmpt.evaluation.likelihood import token_scores
from mmpt.evaluation.suite.base import Benchmark, Measure, Outcome, Result, first, measure
from mmpt.vocabulary import MODALITIES

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel


class LossConfig(Benchmark):
    """`folder`: token shards of the model's vocabulary."""

    kind: Literal["loss"]
    folder: Path


def run(config: LossConfig, model: "MultimodalModel") -> Result:
    """Σ weight · nll / Σ weight in nats a token, of all targets and of those of each modality. Raises `VocabularyError` where the
    ids mean other things than the model's."""
    vocabulary = model.tokenizer.vocabulary
    documents = first(iter(TokenShards(config.folder, vocabulary)), config.limit)
    found = [one.log_probability for one in token_scores(model, [one.ids.tolist() for one in documents])]
    sums, weights = np.zeros((2, len(documents), len(MODALITIES)))
    for number, (one, scores) in enumerate(zip(documents, found, strict=True)):
        modality = vocabulary.modality(one.ids[1:])
        own = np.ones(len(scores)) if one.weights is None else one.weights[1:].astype(np.float64)
        np.add.at(sums[number], modality, -scores * own)
        np.add.at(weights[number], modality, own)
    measures = [_mean("loss", sums.sum(axis=1), weights.sum(axis=1))]
    learned = [place for place in range(len(MODALITIES)) if weights[:, place].any()]
    if len(learned) > 1:
        measures += [_mean(f"loss, {MODALITIES[place]}", sums[:, place], weights[:, place]) for place in learned]
    means = sums.sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-12)
    outcomes = tuple(
        Outcome(one.id, (), (Text(f"{len(one.ids)} tokens"),), "", f"{mean:.3f} nats a token", -float(mean))
        for one, mean in zip(documents, means, strict=True)
    )
    return Result(config.name, "nats a target, weighted as in training; each document alone", tuple(measures), outcomes)


def _mean(name: str, sums: np.ndarray, weights: np.ndarray) -> Measure:
    def ratio(chosen: np.ndarray) -> float:
        total = weights[chosen].sum()
        return float(sums[chosen].sum() / total) if total else float("nan")

    return measure(name, len(sums), ratio, "less")
