"""Noise to lay under speech: made, or of a folder of recordings."""

import random

import numpy as np

from mmpt.data.store import Store
from mmpt.document import SPEECH_SUFFIXES
from mmpt.errors import ConfigError, DataError
from mmpt.media import decode_speech
from mmpt.modality import SAMPLE_RATE

MADE = ("white", "pink")


class Noise:
    """`kind`: white, pink (of a power that falls as 1 / frequency), or a folder or URL of recordings, opened as it is asked for.

    Raises `ConfigError` where there is no recording in it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._store = Store(kind) if kind and kind not in MADE else None
        self._files: list[str] = []
        if self._store:
            try:
                self._files = [name for name in self._store.files() if name.rpartition(".")[2].lower() in SPEECH_SUFFIXES]
            except DataError as problem:
                raise ConfigError(f"noise: {problem}") from None
            if not self._files:
                raise ConfigError(f"noise: {kind}: expected white, pink, or a folder with {', '.join(SPEECH_SUFFIXES)}")

    def drawn(self, samples: int, draw: random.Random) -> tuple[str, np.ndarray]:
        """(its name, float64 [samples] at 16 kHz): from a place that is drawn, again from the beginning where it is too short."""
        if self._store is None:
            white = np.random.default_rng(draw.getrandbits(64)).standard_normal(samples)
            return self.kind, white if self.kind == "white" else _pink(white)
        name = draw.choice(self._files)
        try:
            sound = decode_speech(self._store.read(name), SAMPLE_RATE).astype(np.float64)
        except DataError as problem:
            raise ConfigError(f"noise: {self._store.path(name)}: {problem}") from None
        return name, np.resize(np.roll(sound, -draw.randrange(len(sound))), samples)


def _pink(white: np.ndarray) -> np.ndarray:
    spectrum = np.fft.rfft(white)
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), len(white))
