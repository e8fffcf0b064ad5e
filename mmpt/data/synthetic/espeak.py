"""Speech from text by espeak-ng, a formant synthesiser, through the library that the package `espeakng-loader` carries.

espeak-ng is GPL-3.0 and an optional extra: it is loaded at run time and never bundled. C interface: espeak-ng's speak_lib.h.
"""

import _ctypes
import ctypes
import tempfile
from pathlib import Path
from typing import Self

import numpy as np

from mmpt.data.synthetic.utterance import Utterance
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


class Speaker:
    """espeak-ng in its first state: a `with` block whose n-th call gives the same samples every time.

    espeak-ng varies its voice a little from call to call by a state of its own that nothing resets (neither
    `espeak_Terminate` nor `srand`), so each block loads a copy of the library of its own: some milliseconds.
    Raises `ConfigError` where the package is missing.
    """

    def __enter__(self) -> Self:
        try:
            import espeakng_loader
        except ImportError:
            raise ConfigError("speech synthesis needs espeak-ng: pip install 'mmpt[quickstart]'") from None
        with tempfile.NamedTemporaryFile(suffix=".so") as copy:  # a file of its own is what makes it another library
            copy.write(Path(espeakng_loader.get_library_path()).read_bytes())
            copy.flush()
            self._library = ctypes.CDLL(copy.name)
        data = str(espeakng_loader.get_data_path()).encode()
        self._sample_rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0)
        if self._sample_rate <= 0:
            raise ConfigError("espeak-ng could not be started")
        self._library.espeak_ng_SetRandSeed(1)  # breathy voices draw noise, and the start seeds it by the second of the clock
        return self

    def __exit__(self, *_: object) -> None:
        self._library.espeak_Terminate()
        _ctypes.dlclose(self._library._handle)

    def speak(self, text: str, voice: str = "en-us", words_per_minute: int = 190, pitch: int = 50) -> Utterance:
        """Speak `text` with an espeak-ng voice ("en-us", "en-gb+f3", …); `pitch` 0 to 99.

        Raises `ConfigError` where there is no such voice.
        """
        library, sample_rate = self._library, self._sample_rate
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
        # Character for character, so that the places of words stay: a NUL would end the text unheard.
        data = text.replace("\0", " ").encode("utf-8", errors="replace")
        library.espeak_Synth(data, len(data) + 1, 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None)
        samples = np.concatenate(chunks).astype(np.float32) / 32768 if chunks else np.zeros(0, dtype=np.float32)
        ends = [start for _, _, start in starts[1:]] + [len(samples) / sample_rate]
        words = tuple(
            (text[place : place + length], start, end) for (place, length, start), end in zip(starts, ends, strict=True)
        )
        return Utterance(samples, sample_rate, words)
