"""Error rates between texts."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import jiwer
import numpy as np

from mmpt.evaluation.metrics.intervals import Measure, measure


class Errors(NamedTuple):
    """Of one answer: word errors, words of its reference, character errors, characters of its reference."""

    word_errors: int
    words: int
    character_errors: int
    characters: int


def normalise(text: str) -> str:
    """Lower case, letters, digits and apostrophes only, single spaces: what both sides of a word error rate go through."""
    return " ".join(re.sub(r"[^\w' ]", " ", text.lower().replace("_", " ")).split())


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Substitutions, deletions and insertions ÷ words of the references, over all pairs together (jiwer)."""
    return float(jiwer.wer([normalise(text) for text in references], [normalise(text) for text in hypotheses]))


def error_rates(expected: Sequence[str], found: Sequence[str]) -> tuple[Measure, Measure]:
    """Word (`WER`) and character error rate (`CER`) over all pairs together, with intervals over resampled pairs."""
    pairs = zip(expected, found, strict=True)
    counts = np.array([errors(wanted, got) for wanted, got in pairs], dtype=np.float64).reshape(-1, len(Errors._fields))

    def rate(chosen: np.ndarray, column: int) -> float:
        # Sums before the division: long utterances count as their words, not as one item each.
        total = counts[chosen, column + 1].sum()
        return float(counts[chosen, column].sum() / total) if total else float("nan")

    return (
        measure("WER", len(counts), lambda chosen: rate(chosen, 0), "less"),
        measure("CER", len(counts), lambda chosen: rate(chosen, 2), "less"),
    )


def words_right(expected: str, found: str) -> float:
    """1 less the word errors of one answer by its words: 1 where it is right, below 0 where there are more errors than words."""
    return 1 - errors(expected, found).word_errors / max(1, len(normalise(expected).split()))


def same_text(one: str, other: str) -> bool:
    """Whether two texts are the same once both are normalised."""
    return normalise(one) == normalise(other)


def errors(expected: str, found: str) -> Errors:
    """The errors of one answer, both sides normalised."""
    wanted, got = [normalise(expected)], [normalise(found)]
    words, letters = jiwer.process_words(wanted, got), jiwer.process_characters(wanted, got)
    return Errors(
        words.substitutions + words.deletions + words.insertions,
        words.hits + words.substitutions + words.deletions,
        letters.substitutions + letters.deletions + letters.insertions,
        letters.hits + letters.substitutions + letters.deletions,
    )
