"""Scores between texts."""

import re
from collections.abc import Sequence

import jiwer


def normalise(text: str) -> str:
    """Lower case, letters, digits and apostrophes only, single spaces: what both sides of a word error rate go through."""
    return " ".join(re.sub(r"[^\w' ]", " ", text.lower().replace("_", " ")).split())


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Substitutions, deletions and insertions ÷ words of the references, over all pairs together (jiwer)."""
    return float(jiwer.wer([normalise(text) for text in references], [normalise(text) for text in hypotheses]))
