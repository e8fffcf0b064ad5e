"""How well losses on a text tell which model is the abler."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pydantic

from mmpt.config import Schema
from mmpt.data.curate.scorers import DocumentSet, Fitted, Scorer, text_of
from mmpt.data.curate.scorers._classifier import log_odds, train
from mmpt.document import Document
from mmpt.errors import ConfigError


class JudgedModel(Schema):
    """A language model, and how able it is."""

    path: str
    """Folder or Hugging Face name, with its tokenizer."""
    ability: float
    """Its result on the benchmarks that are to be predicted; more = better."""


class Preselect(Scorer):
    """Log odds, by a classifier on n-grams, that the losses of models on a text rank them as their abilities do: Shum et al.
    2025, "Predictive Data Selection" (arXiv:2503.00808). A sample of the pool is read by every model; its quarter of the highest
    strength is told from that of the lowest."""

    carries: ClassVar[tuple[str, ...]] = ("PreSelect (predictive data selection)",)

    holds_model: ClassVar = True
    models: tuple[JudgedModel, ...] = pydantic.Field(min_length=2)
    """Of different abilities; losses are compared a character, so tokenizers may differ."""
    documents: int = pydantic.Field(default=2000, ge=8)
    """Documents of the pool, evenly from the whole, that the models read."""
    max_tokens: int = pydantic.Field(default=512, ge=2)
    """Tokens of a text that are looked at."""
    ngrams: int = pydantic.Field(default=2, ge=1)
    """Words of the longest n-gram."""
    buckets: int = pydantic.Field(default=1 << 18, ge=2)
    """Buckets that n-grams are hashed into."""

    def reads(self) -> tuple[str, ...]:
        return tuple(one.path for one in self.models)

    def fit(self, pool: DocumentSet) -> dict[str, np.ndarray]:
        read = list(pool.sample(self.documents))
        losses = np.stack([self._losses(one.path, read) for one in self.models])
        known = np.flatnonzero(~np.isnan(losses).any(axis=0))
        if len(known) < 8:
            raise ConfigError(f"{self.kind}: {len(known)} documents of the pool have a text, expected 8 or more")
        order = known[np.argsort(strengths(losses[:, known], [one.ability for one in self.models]), kind="stable")]
        quarter = len(order) // 4
        best, worst = ([read[place] for place in places] for places in (order[-quarter:], order[:quarter]))
        return train(best, worst, self.ngrams, self.buckets, strength=10.0)

    def score(self, documents: Sequence[Document], fitted: Fitted) -> np.ndarray:
        return log_odds(documents, fitted, self.ngrams, self.buckets)

    def _losses(self, path: str, documents: Sequence[Document]) -> np.ndarray:
        """float64 [documents]: nats a character of what is looked at."""
        from mmpt.data.curate.scorers._language_model import language_model, log_probabilities, token_ids

        model, tokenizer = language_model(path, None, self.kind)
        rows = token_ids(tokenizer, [text_of(one) for one in documents], self.max_tokens)
        characters = np.array([len(tokenizer.decode(row[1:])) for row in rows], dtype=np.float64)
        counts = np.array([len(row) - 1 for row in rows], dtype=np.float64)
        return -log_probabilities(model, rows) * counts / np.maximum(characters, 1)


def strengths(losses: np.ndarray, abilities: Sequence[float]) -> np.ndarray:
    """float64 [documents]: of the pairs of models of different ability the share in which the abler has the lower loss; `losses`
    [models, documents]. Raises `ConfigError` where all are alike able."""
    pairs = [(a, b) for a in range(len(abilities)) for b in range(len(abilities)) if abilities[a] > abilities[b]]
    if not pairs:
        raise ConfigError("preselect: models: expected different abilities")
    return np.mean([losses[a] < losses[b] for a, b in pairs], axis=0)
