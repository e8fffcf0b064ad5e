"""Sound as a client asks for it: in which format, whole or piece by piece."""

import importlib
import io
import struct
from typing import Any, Literal

import numpy as np
import soundfile
import soxr

from mmpt.errors import DataError

SoundFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
"""Those of OpenAI's `/v1/audio/speech`; its chat completions call the last `pcm16`."""
PCM_RATE = 24_000
"""Hz of raw PCM, which does not say it: that of OpenAI's, whatever the vocoder's own is."""
MEDIA_TYPES: dict[SoundFormat, str] = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
_BY_SOUNDFILE = {"mp3": ("MP3", "MPEG_LAYER_III"), "opus": ("OGG", "OPUS"), "flac": ("FLAC", "PCM_16")}


class PcmWriter:
    """Raw 16-bit little-endian PCM at `PCM_RATE`."""

    def __init__(self, rate: int) -> None:
        self._resampled = soxr.ResampleStream(rate, PCM_RATE, 1, dtype="float32") if rate != PCM_RATE else None

    def write(self, samples: np.ndarray, last: bool = False) -> bytes:
        """What is final with `samples` float32 [n], n may be 0; `last`: there will be no more."""
        if self._resampled is not None:
            samples = self._resampled.resample_chunk(np.ascontiguousarray(samples, dtype=np.float32), last=last)
        return _pcm(samples)

    def close(self) -> bytes:
        """The rest."""
        return self.write(np.zeros(0, dtype=np.float32), last=True)


class _WavWriter:
    """WAV whose header states no length, as it is not known yet (sizes of 0xFFFFFFFF, as OpenAI streams it)."""

    def __init__(self, rate: int) -> None:
        head = struct.pack(
            "<4sI4s4sIHHIIHH4sI", b"RIFF", 0xFFFFFFFF, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", 0xFFFFFFFF
        )
        self._head = head

    def write(self, samples: np.ndarray) -> bytes:
        head, self._head = self._head, b""
        return head + _pcm(samples)

    def close(self) -> bytes:
        return self.write(np.zeros(0, dtype=np.float32))


class _FileWriter:
    """What libsndfile writes, in the order in which it does: what it goes back for at the end (lengths) stays unknown."""

    def __init__(self, kind: SoundFormat, rate: int) -> None:
        form, subtype = _BY_SOUNDFILE[kind]
        self._buffer, self._taken = io.BytesIO(), 0
        self._file = soundfile.SoundFile(self._buffer, "w", rate, 1, subtype=subtype, format=form)

    def write(self, samples: np.ndarray) -> bytes:
        self._file.write(np.clip(samples, -1.0, 1.0))
        return self._new()

    def close(self) -> bytes:
        self._file.close()
        return self._new()

    def _new(self) -> bytes:
        found = self._buffer.getbuffer()[self._taken :].tobytes()
        self._taken += len(found)
        return found


class _AacWriter:
    """AAC in ADTS frames, by PyAV."""

    def __init__(self, rate: int) -> None:
        self._av: Any = _av()
        self._buffer, self._taken = io.BytesIO(), 0
        self._file = self._av.open(self._buffer, "w", format="adts")
        self._stream = self._file.add_stream("aac", rate=rate)
        self._stream.layout, self._rate = "mono", rate

    def write(self, samples: np.ndarray) -> bytes:
        if len(samples):
            sound = np.clip(samples, -1.0, 1.0).astype(np.float32)
            frame = self._av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[None]), format="fltp", layout="mono")
            frame.sample_rate = self._rate
            self._file.mux(self._stream.encode(frame))
        return self._new()

    def close(self) -> bytes:
        self._file.mux(self._stream.encode(None))
        self._file.close()
        return self._new()

    def _new(self) -> bytes:
        found = self._buffer.getvalue()[self._taken :]
        self._taken += len(found)
        return found


class _WholeWriter:
    """FLAC, all at the end: one whose header states no length is not read by everybody (libsndfile)."""

    def __init__(self, rate: int) -> None:
        self._rate, self._sounds = rate, [np.zeros(0, dtype=np.float32)]

    def write(self, samples: np.ndarray) -> bytes:
        self._sounds.append(samples)
        return b""

    def close(self) -> bytes:
        return encoded(np.concatenate(self._sounds), self._rate, "flac")


SoundWriter = PcmWriter | _WavWriter | _FileWriter | _AacWriter | _WholeWriter
"""`write` samples float32 [n], at the end `close`; each gives the bytes that are final by then."""


def sound_writer(kind: SoundFormat, rate: int) -> SoundWriter:
    """A writer of sound at `rate` Hz. Raises `DataError` where the format needs a library that is not there."""
    if kind == "pcm":
        return PcmWriter(rate)
    if kind == "wav":
        return _WavWriter(rate)
    if kind == "flac":
        return _WholeWriter(rate)
    return _AacWriter(rate) if kind == "aac" else _FileWriter(kind, rate)


def check_format(kind: SoundFormat) -> None:
    """Raises `DataError` where the format needs a library that is not there."""
    if kind == "aac":
        _av()


def encoded(samples: np.ndarray, rate: int, kind: SoundFormat) -> bytes:
    """A whole sound float32 [n] in one file, whose header states its length."""
    if kind in ("pcm", "aac"):
        writer = sound_writer(kind, rate)
        return writer.write(samples) + writer.close()
    form, subtype = _BY_SOUNDFILE.get(kind, ("WAV", "PCM_16"))
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(samples, -1.0, 1.0), rate, format=form, subtype=subtype)
    return buffer.getvalue()


def _pcm(samples: np.ndarray) -> bytes:
    return (samples.clip(-1, 1) * 32767).astype("<i2").tobytes()


def _av() -> Any:
    try:
        return importlib.import_module("av")
    except ModuleNotFoundError:
        raise DataError("aac is written by PyAV, which this server has not (pip install av)") from None
