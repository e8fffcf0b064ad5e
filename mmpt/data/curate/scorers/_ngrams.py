"""Hashed n-grams of words, as sparse counts."""

from collections.abc import Sequence
from typing import Any

from mmpt.data.curate.scorers import text_of
from mmpt.data.extra import need
from mmpt.document import Document

WORDS = r"\w+|[^\w\s]+"
"""What is a word: a run of letters and digits, or of other signs, as NLTK's wordpunct_tokenize has it."""


def ngram_counts(documents: Sequence[Document], ngrams: int, buckets: int) -> Any:
    """Sparse float64 [documents, buckets]: how often the n-grams of 1 to `ngrams` words of each text, in lower case, fall into
    each bucket (MurmurHash3, scikit-learn)."""
    text = need("sklearn.feature_extraction.text")
    vectorizer = text.HashingVectorizer(
        n_features=buckets, ngram_range=(1, ngrams), token_pattern=WORDS, alternate_sign=False, norm=None
    )
    return vectorizer.transform([text_of(one) for one in documents])
