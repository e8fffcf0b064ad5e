"""What a synthesiser has said."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Utterance:
    """Mono float32 `samples` at `sample_rate` Hz, and the time of each word: (word, start s, end s).

    Of words that espeak-ng runs together, such as "of a", only the first is listed."""

    samples: np.ndarray
    sample_rate: int
    words: tuple[tuple[str, float, float], ...]
