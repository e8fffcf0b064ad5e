"""A text behind a word on how good it is."""

import random
from collections.abc import Mapping

import numpy as np
import pydantic

from mmpt.data.transforms import Tokens, TokenTransform, joined, mark
from mmpt.errors import DataError


class Condition(TokenTransform):
    """A token before each text says whether its score reaches a threshold, so that what is asked for behind the good one is like
    the good texts: the conditional training of Pretraining with Human Feedback (Korbak et al. 2023, arXiv:2302.08582), by
    document. The token is read, never learned. Scores are those that rules leave in a document (`datasets/filter.py`)."""

    score: str
    """Its name in meta.scores; of one for each part, the mean counts."""
    threshold: float
    """The least score of a good text."""
    good: str = "<|good|>"
    """The token of the text tokenizer before a good text."""
    bad: str = "<|bad|>"
    """Before any other."""
    unmarked: float = pydantic.Field(default=0.01, ge=0, lt=1)
    """The share of texts with neither, so that the model writes without one too."""

    def marks(self) -> tuple[str, ...]:
        return (self.good, self.bad)

    def apply(self, text: Tokens, marks: Mapping[str, int], draw: random.Random, scores: Mapping[str, object]) -> Tokens:
        found = scores.get(self.score)
        values = [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, int | float)]
        if not values:
            known = ", ".join(scores) or "none"
            raise DataError(f"transform: it has no score {self.score!r} (meta.scores has {known})")
        if draw.random() < self.unmarked:
            return text
        good = float(np.mean(values)) >= self.threshold
        return joined(mark(marks[self.good if good else self.bad], 0.0), text)
