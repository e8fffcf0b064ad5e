"""Signals of a text's quality, kept as numbers, so that the rules over them may change."""

import re
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np

from mmpt.data.curate.scorers import Fitted, Scorer, text_of
from mmpt.document import Document

STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
BULLETS = ("•", "‣", "◦", "-", "*", "–")
ENDS = (".", "!", "?", '"', "”")


def _share(found: Sequence[bool]) -> float:
    return sum(found) / len(found)


SIGNALS: dict[str, Callable[[list[str], list[str]], float]] = {
    "words": lambda words, lines: len(words),
    "mean_word_length": lambda words, lines: sum(map(len, words)) / len(words),
    "symbols": lambda words, lines: (" ".join(words).count("#") + len(re.findall(r"\.\.\.|…", " ".join(words)))) / len(words),
    "alphabetic_words": lambda words, lines: _share([any(map(str.isalpha, word)) for word in words]),
    "stop_words": lambda words, lines: len(STOP_WORDS & {word.lower().strip(".,;:!?\"'()") for word in words}),
    "distinct_words": lambda words, lines: len({word.lower() for word in words}) / len(words),
    "bullet_lines": lambda words, lines: _share([line.startswith(BULLETS) for line in lines]),
    "ellipsis_lines": lambda words, lines: _share([line.endswith(("...", "…")) for line in lines]),
    "ended_lines": lambda words, lines: _share([line.endswith(ENDS) for line in lines]),
}


class Signal(Scorer):
    """One of the quality signals that RedPajama 2 (Weber et al. 2024, arXiv:2411.12372) keeps with each document, after the rules
    of Gopher (Rae et al. 2021, arXiv:2112.11446, table A1) and C4 (Raffel et al. 2020, arXiv:1910.10683). More is not always
    better: ask for it in a condition, such as `50 <= words and words <= 100000 and stop_words >= 2`."""

    carries: ClassVar[tuple[str, ...]] = ("RedPajama", "Dolma")

    of: Literal[
        "words",
        "mean_word_length",
        "symbols",
        "alphabetic_words",
        "stop_words",
        "distinct_words",
        "bullet_lines",
        "ellipsis_lines",
        "ended_lines",
    ]
    """words: how many. symbols: hashes and ellipses a word. stop_words: how many of the eight of Gopher are there. Others are
    means or shares of the words or lines that are so: ended_lines those that end with a full stop, a question, exclamation or
    quotation mark."""

    def score(self, documents: Sequence[Document], fitted: Fitted) -> np.ndarray:
        found = np.full(len(documents), np.nan, np.float32)
        for place, document in enumerate(documents):
            text = text_of(document)
            if words := text.split():
                lines = [line.strip() for line in text.splitlines() if line.strip()]
                found[place] = SIGNALS[self.of](words, lines)
        return found
