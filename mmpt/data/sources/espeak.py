"""Speech from text by espeak-ng, a formant synthesiser, through the library that the package `espeakng-loader` carries.

espeak-ng is GPL-3.0 and an optional extra: it is loaded at run time and never bundled. C interface: espeak-ng's speak_lib.h.
"""

import ctypes
import functools
from dataclasses import dataclass

import numpy as np

from mmpt.errors import ConfigError

_SYNCHRONOUS, _CHARS_UTF8, _POSITION_CHARACTER = 2, 1, 1
_RATE, _PITCH = 1, 3
_EVENT_END, _EVENT_WORD = 0, 1


class _Event(ctypes.Structure):
    class _Id(ctypes.Union):
        _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Utterance:
    """Mono float32 `samples` at `sample_rate` Hz, and the time of each word: (word, start s, end s).

    Of words that espeak-ng runs together, such as "of a", only the first is listed."""

    samples: np.ndarray
    sample_rate: int
    words: tuple[tuple[str, float, float], ...]


def speak(text: str, voice: str = "en-us", words_per_minute: int = 190, pitch: int = 50) -> Utterance:
    """Speak `text` with an espeak-ng voice ("en-us", "en-gb+f3", …); `pitch` 0 to 99.

    espeak-ng varies its voice a little from call to call by a state of its own: the same sequence of calls in a fresh process
    gives the same samples, a single call does not.
    Raises `ConfigError` where the package is missing or there is no such voice.
    """
    library, sample_rate = _library()
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise ConfigError(f"espeak-ng has no voice {voice!r}")
    library.espeak_SetParameter(_RATE, words_per_minute, 0)
    library.espeak_SetParameter(_PITCH, pitch, 0)
    chunks: list[np.ndarray] = []
    starts: list[tuple[int, int, float]] = []

    def collect(samples, count, events) -> int:
        if samples and count > 0:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _EVENT_END:
            if events[index].type == _EVENT_WORD:
                starts.append((events[index].text_position - 1, events[index].length, events[index].audio_position / 1000))
            index += 1
        return 0

    callback = _CALLBACK(collect)
    library.espeak_SetSynthCallback(callback)
    data = text.encode()
    library.espeak_Synth(data, len(data) + 1, 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None)
    samples = np.concatenate(chunks).astype(np.float32) / 32768 if chunks else np.zeros(0, dtype=np.float32)
    ends = [start for _, _, start in starts[1:]] + [len(samples) / sample_rate]
    words = tuple((text[place : place + length], start, end) for (place, length, start), end in zip(starts, ends, strict=True))
    return Utterance(samples, sample_rate, words)


@functools.cache
def _library() -> tuple[ctypes.CDLL, int]:
    try:
        import espeakng_loader
    except ImportError:
        raise ConfigError("speech synthesis needs espeak-ng: pip install 'mmpt[quickstart]'") from None
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    sample_rate = library.espeak_Initialize(_SYNCHRONOUS, 0, str(espeakng_loader.get_data_path()).encode(), 0)
    if sample_rate <= 0:
        raise ConfigError("espeak-ng could not be started")
    return library, sample_rate
