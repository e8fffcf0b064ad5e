"""The loss on token shards that a model did not learn from, document by document."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.tokens import TokenDocument, sequences
from mmpt.evaluation.metrics.likelihood import token_scores
from mmpt.vocabulary import MODALITIES, Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = 409_600
"""At most about so many are read for `held_out_loss`."""
BATCH = 256
"""Documents in memory at once."""


class DocumentLosses(NamedTuple):
    """Σ weight · nll in nats (`sums`) and Σ weight (`weights`), both float64 [documents, modalities], by the modality of the
    target in the order of `vocabulary.MODALITIES`."""

    sums: np.ndarray
    weights: np.ndarray


def document_losses(model: "PreTrainedModel", vocabulary: Vocabulary, documents: Sequence[TokenDocument]) -> DocumentLosses:
    """The losses of each document, read alone, and of a pair of answers of the preferred one; the first id is no target."""
    documents = [sequences(one)[0] for one in documents]
    found = token_scores(model, vocabulary, [one.ids.tolist() for one in documents])
    sums, weights = np.zeros((2, len(documents), len(MODALITIES)))
    for number, (one, scores) in enumerate(zip(documents, found, strict=True)):
        modality = vocabulary.modality(one.ids[1:])
        own = np.ones(len(modality)) if one.weights is None else one.weights[1:].astype(np.float64)
        # `add.at` because a modality occurs many times among the targets: `sums[n, modality] += …` would keep one of each.
        np.add.at(sums[number], modality, -scores.log_probability * own)
        np.add.at(weights[number], modality, own)
    return DocumentLosses(sums, weights)


def held_out_loss(model: "PreTrainedModel", vocabulary: Vocabulary, folders: Sequence[Path], tokens: int = TOKENS) -> float:
    """Σ weight · nll / Σ weight in nats over the documents of `folders`; of more than `tokens` tokens, every so many-th document.

    Raises `VocabularyError` where their ids mean other things than the model's.
    """
    sources = [TokenShards(folder, vocabulary) for folder in folders]
    every = max(1, round(sum(int(one.lengths.sum()) for one in sources) / tokens))
    documents = (one[number] for one in sources for number in range(0, len(one), every))
    total = weight = 0.0
    while batch := list(islice(documents, BATCH)):
        found = document_losses(model, vocabulary, batch)
        total, weight = total + float(found.sums.sum()), weight + float(found.weights.sum())
    return total / weight
