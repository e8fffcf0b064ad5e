"""A linear classifier on hashed n-grams."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmpt.data.curate.scorers import Fitted
from mmpt.data.curate.scorers._ngrams import ngram_counts
from mmpt.data.extra import need
from mmpt.document import Document
from mmpt.errors import ConfigError


def shares(documents: Sequence[Document], ngrams: int, buckets: int) -> Any:
    """Sparse float64 [documents, buckets]: n-gram counts of length 1, so that a long text is no surer than a short one."""
    return need("sklearn.preprocessing").normalize(ngram_counts(documents, ngrams, buckets))


def train(
    wanted: Sequence[Document], others: Sequence[Document], ngrams: int, buckets: int, strength: float
) -> dict[str, np.ndarray]:
    """Logistic regression that tells `wanted` from `others`, each side as heavy as the other: `weights` float64 [buckets], `bias`
    float64 [1]. Raises `ConfigError` where a side is empty."""
    if not wanted or not others:
        raise ConfigError(
            f"a classifier needs documents of both kinds, found {len(wanted)} that are wanted and {len(others)} others"
        )
    linear = need("sklearn.linear_model")
    features = shares([*wanted, *others], ngrams, buckets)
    labels = np.repeat([1, 0], [len(wanted), len(others)])
    model = linear.LogisticRegression(C=strength, class_weight="balanced", max_iter=1000, tol=1e-6).fit(features, labels)
    return {"weights": model.coef_[0], "bias": model.intercept_}


def log_odds(documents: Sequence[Document], fitted: Fitted, ngrams: int, buckets: int) -> np.ndarray:
    """float32 [documents]: ln p(wanted) − ln p(other); NaN without a word."""
    features = shares(documents, ngrams, buckets)
    empty = np.diff(features.indptr) == 0
    return np.where(empty, np.nan, features @ fitted["weights"] + fitted["bias"]).astype(np.float32)
