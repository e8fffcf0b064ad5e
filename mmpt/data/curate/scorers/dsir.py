"""How much more likely a text is among those that are wanted."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import ClassVar

import numpy as np
import pydantic

from mmpt.data.curate.scorers import DocumentSet, Fitted, TargetScorer
from mmpt.data.curate.scorers._ngrams import ngram_counts
from mmpt.document import Document
from mmpt.errors import ConfigError

BATCH = 1024
LEAST = 1e-8
"""Added to every probability, so that one of a bucket nobody fills has a logarithm; as the authors' code does."""


class Dsir(TargetScorer):
    """Log weight of importance resampling, ln p̂(text) − ln q̂(text) under bags of hashed n-grams of the target and of the pool:
    Xie et al. 2023, "Data Selection for Language Models via Importance Resampling" (arXiv:2302.03169). To resample,
    draw by it: `{by: dsir, share: 0.2, gumbel: true}` in `select`."""

    carries: ClassVar[tuple[str, ...]] = ("DSIR (importance resampling)",)

    ngrams: int = pydantic.Field(default=2, ge=1)
    """Words of the longest n-gram."""
    buckets: int = pydantic.Field(default=10_000, ge=2)
    """Buckets that n-grams are hashed into."""

    def fit(self, pool: DocumentSet) -> dict[str, np.ndarray]:
        wanted, there = self._distribution(DocumentSet(self.target)), self._distribution(pool)
        return {"log_ratio": np.log(wanted + LEAST) - np.log(there + LEAST)}

    def score(self, documents: Sequence[Document], fitted: Fitted) -> np.ndarray:
        counts = ngram_counts(documents, self.ngrams, self.buckets)
        empty = np.asarray(counts.sum(axis=1)).ravel() == 0
        return np.where(empty, np.nan, counts @ fitted["log_ratio"]).astype(np.float32)

    def _distribution(self, documents: Iterable[Document]) -> np.ndarray:
        """float64 [buckets]: the share of each among all n-grams. Raises `ConfigError` where there are none."""
        total = np.zeros(self.buckets)
        stream: Iterator[Document] = iter(documents)
        while batch := list(islice(stream, BATCH)):
            total += np.asarray(ngram_counts(batch, self.ngrams, self.buckets).sum(axis=0)).ravel()
        if not total.sum():
            raise ConfigError(f"{self.kind}: no word in the target {self.target} or in the pool")
        return total / total.sum()
