"""What a speech tokenizer with a fixed encoder is to learn of an utterance."""

from typing import NamedTuple

import torch
from torchaudio.functional import edit_distance

MISREAD = 0.25
"""Share of the letters of a transcript; the lesson of an utterance of which more is read otherwise would be a made-up text."""


def misread(text: str, read: str) -> float:
    """Edits from the letters and digits of `text`, whatever their case, to those of `read`, for each of `text`."""
    said, found = ([one for one in whole.casefold() if one.isalnum()] for whole in (text, read))
    return edit_distance(said, found) / max(1, len(said))


class Lesson(NamedTuple):
    """What a text decoder reads of an utterance where no code stands between: `text`, its ids, and at each of them and at the
    end behind them the most likely ids, `likely` int32 [len(text) + 1, k], with their `log_probs` float16 [the same]."""

    text: list[int]
    likely: torch.Tensor
    log_probs: torch.Tensor

    @property
    def nbytes(self) -> int:
        return 8 * len(self.text) + self.likely.nbytes + self.log_probs.nbytes


class Heard(NamedTuple):
    """What a fixed encoder hears of an utterance, `hidden` [C, any], and what is to be read of it, where anything is."""

    hidden: torch.Tensor
    lesson: Lesson | None
