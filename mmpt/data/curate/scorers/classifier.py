"""How surely a text is one of those that are wanted."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pydantic

from mmpt.data.curate.scorers import DocumentSet, Fitted, TargetScorer
from mmpt.data.curate.scorers._classifier import log_odds, train
from mmpt.document import Document


class Classifier(TargetScorer):
    """Log odds that a text is of the target and not of the pool, by a linear classifier on hashed n-grams, as fastText is: Li et
    al. 2024, "DataComp-LM" (arXiv:2406.11794), which keeps the highest 10 %. Logistic regression of scikit-learn
    learns it to the optimum, always the same."""

    carries: ClassVar[tuple[str, ...]] = ("DataComp-LM (DCLM)", "Arctic-SnowCoder")

    ngrams: int = pydantic.Field(default=2, ge=1)
    """Words of the longest n-gram."""
    buckets: int = pydantic.Field(default=1 << 18, ge=2)
    """Buckets that n-grams are hashed into."""
    strength: float = pydantic.Field(default=10.0, gt=0)
    """Inverse of the weight of the squared norm (scikit-learn's C): larger = nearer to what it has seen."""
    documents: pydantic.PositiveInt = 100_000
    """Documents at most of the target, and of the pool, that it learns from, evenly from the whole."""

    def fit(self, pool: DocumentSet) -> dict[str, np.ndarray]:
        wanted = list(DocumentSet(self.target).sample(self.documents))
        return train(wanted, list(pool.sample(self.documents)), self.ngrams, self.buckets, self.strength)

    def score(self, documents: Sequence[Document], fitted: Fitted) -> np.ndarray:
        return log_odds(documents, fitted, self.ngrams, self.buckets)
