"""Sound of a realtime session: what comes in, in which speech is found, and what goes out."""

import base64
import binascii
import io
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr
import torch

from mmpt.data.extra import need
from mmpt.errors import DataError
from mmpt.inference.server.realtime_events import Format, ServerVad
from mmpt.modality import SAMPLE_RATE

WINDOW = 512
"""Samples, of which silero-vad tells whether they are speech."""
CODECS = {"audio/pcm": "PCM_16", "audio/pcmu": "ULAW", "audio/pcma": "ALAW"}


class SoundIn:
    """Base64 of a format to float32 [n] at 16 kHz, piece by piece."""

    def __init__(self, form: Format) -> None:
        self._form = form
        self._resampler = soxr.ResampleStream(form.rate, SAMPLE_RATE, 1, dtype="float32")
        self._odd = b""

    def push(self, audio: str, last: bool = False) -> np.ndarray:
        """Raises `DataError` on what is no base64."""
        try:
            data = self._odd + base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError) as problem:
            raise DataError(f"audio: no base64 ({problem})") from None
        whole = len(data) // self._width * self._width
        self._odd = data[whole:]
        samples = np.zeros(0, dtype=np.float32)
        if whole:
            codec = CODECS[self._form.type]
            samples, _ = soundfile.read(
                io.BytesIO(data[:whole]), dtype="float32", format="RAW", subtype=codec, channels=1, samplerate=self._form.rate
            )
        return self._resampler.resample_chunk(samples, last=last)

    @property
    def _width(self) -> int:
        """Bytes of a sample."""
        return 2 if self._form.type == "audio/pcm" else 1


class SoundOut:
    """float32 [n] at the model's `rate` to base64 of a format, piece by piece. `seconds`: how much was given."""

    def __init__(self, form: Format, rate: int) -> None:
        self._form, self._samples = form, 0
        self._resampler = soxr.ResampleStream(rate, form.rate, 1, dtype="float32")

    def push(self, samples: np.ndarray, last: bool = False) -> list[str]:
        """Pieces of half a second at most, so that a client that plays them has the first soon."""
        found = self._resampler.resample_chunk(samples.astype(np.float32).clip(-1, 1), last=last)
        self._samples += len(found)
        size = self._form.rate // 2
        return [encoded(found[start : start + size], self._form) for start in range(0, len(found), size)]

    @property
    def seconds(self) -> float:
        return self._samples / self._form.rate


def encoded(samples: np.ndarray, form: Format) -> str:
    """Base64 of float32 [n], which are at the rate of the format."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, form.rate, format="RAW", subtype=CODECS[form.type])
    return base64.b64encode(buffer.getvalue()).decode()


class Turn(NamedTuple):
    """Speech `begins`, or has ended; `at`: the sample since the session began where it did."""

    begins: bool
    at: int


class Listener:
    """Tells where speech begins and ends, by silero-vad (github.com/snakers4/silero-vad)."""

    def __init__(self, settings: ServerVad, begin: int) -> None:
        """`begin`: the number of the first sample that it will hear. Raises `ConfigError` where the library is missing."""
        silero = need("silero_vad", "serve")
        options: dict[str, Any] = {"threshold": settings.threshold, "min_silence_duration_ms": settings.silence_duration_ms}
        # A model of its own: it is recurrent.
        self._hear = silero.VADIterator(silero.load_silero_vad(), sampling_rate=SAMPLE_RATE, speech_pad_ms=0, **options)
        self._begin, self._rest = begin, np.zeros(0, dtype=np.float32)

    def push(self, samples: np.ndarray) -> list[Turn]:
        """What `samples` float32 [any number] at 16 kHz tell."""
        rows = np.concatenate([self._rest, samples])
        whole = len(rows) // WINDOW * WINDOW
        self._rest = rows[whole:]
        found = []
        for window in rows[:whole].reshape(-1, WINDOW):
            told = self._hear(torch.from_numpy(window)) or {}
            found += [Turn(name == "start", self._begin + at) for name, at in told.items()]
        return found


class Kept:
    """The sound that came in and was not taken yet: samples `first` to `total` since the session began."""

    def __init__(self) -> None:
        self._samples = np.zeros(0, dtype=np.float32)
        self.first = 0

    @property
    def total(self) -> int:
        return self.first + len(self._samples)

    @property
    def seconds(self) -> float:
        return len(self._samples) / SAMPLE_RATE

    @property
    def bytes(self) -> int:
        return self._samples.nbytes

    def push(self, samples: np.ndarray) -> None:
        self._samples = np.concatenate([self._samples, samples])

    def take(self, end: int) -> np.ndarray:
        """What is kept before sample `end`; it is kept no longer."""
        cut = min(max(0, end - self.first), len(self._samples))
        found, self._samples = self._samples[:cut], self._samples[cut:].copy()
        self.first += cut
        return found
