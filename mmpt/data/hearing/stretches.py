"""Where somebody speaks."""

from functools import lru_cache
from typing import Any

import numpy as np

from mmpt.data.extra import need
from mmpt.modality import SAMPLE_RATE


def spoken_stretches(samples: np.ndarray, longest: float | None = None) -> list[tuple[int, int]]:
    """(first sample, one past the last) of each stretch of float32 [samples] at 16 kHz in which silero-vad hears speech.
    One longer than `longest` seconds is cut, where it can be at a pause. Raises `ConfigError` where the library is missing."""
    import torch

    model, timestamps = _detector()
    model.reset_states()  # the model is recurrent: what was heard before must not be heard in this
    options = {} if longest is None else {"max_speech_duration_s": longest}
    found = timestamps(torch.from_numpy(samples), model, sampling_rate=SAMPLE_RATE, **options)
    return [(stretch["start"], stretch["end"]) for stretch in found]


@lru_cache(maxsize=1)
def _detector() -> tuple[Any, Any]:
    """(the model, what finds stretches of speech with it), loaded once in each process."""
    module = need("silero_vad")
    return module.load_silero_vad(), module.get_speech_timestamps
