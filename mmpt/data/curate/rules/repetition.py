"""How much of a text says again what it said."""

from collections import Counter
from typing import ClassVar

import pydantic

from mmpt.data.curate.rules import PartRule, Verdict
from mmpt.document import Document, Text


class Repetition(PartRule):
    """Share of a text's characters in repeated lines, and in its most frequent n-gram of words: Rae et al. 2021, "Scaling
    Language Models: Methods, Analysis & Insights from Training Gopher" (arXiv:2112.11446), table A1."""

    judges: ClassVar = Text
    max_duplicate_lines: float = 0.3
    """Share of the characters that may lie in lines which came before."""
    ngram: int = pydantic.Field(default=2, ge=1)
    """Words of the n-gram."""
    max_top_ngram: float = 0.2
    """Share of the characters that the most frequent n-gram may make."""
    min_words: int = 20
    """A text of fewer words stays: its shares say little."""

    def judge(self, part: Text, document: Document, place: int) -> Verdict:
        lines = [line.strip() for line in part.text.splitlines() if line.strip()]
        words = part.text.split()
        if len(words) < self.min_words:
            return Verdict()
        counts = Counter(lines)
        again = sum((count - 1) * len(line) for line, count in counts.items()) / sum(map(len, lines))
        grams = Counter(tuple(words[i : i + self.ngram]) for i in range(len(words) - self.ngram + 1))
        # By the characters it makes in all, so of equally frequent n-grams the longest counts.
        gram, count = max(grams.items(), key=lambda item: item[1] * sum(map(len, item[0])))
        top = count * sum(map(len, gram)) / sum(map(len, words)) if count > 1 else 0.0
        if again > self.max_duplicate_lines:
            return Verdict(f"{again:.0%} of it in repeated lines")
        return Verdict(f"{top:.0%} of it is {' '.join(gram)!r}" if top > self.max_top_ngram else None)
