"""Speech from text by CMU Flite, whose voices are statistical models of recordings, through the library of the operating system.

Flite is under a free licence like that of X11, is loaded at run time and never bundled: `apt install libflite1` or
`brew install flite`.
C interface: flite's cst_voice.h, cst_wave.h, cst_item.h, cst_utterance.h (github.com/festvox/flite).
"""

import ctypes
import ctypes.util
from functools import cache

import numpy as np

from mmpt.data.synthetic.utterance import Utterance
from mmpt.errors import ConfigError

VOICES = ("slt", "rms", "awb", "kal16")
_NATURAL = 170
"""Words a minute of its voices, about, where nothing is stretched."""


class _Voice(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("features", ctypes.c_void_p)]


class _Wave(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    ]


def speak(text: str, voice: str = "slt", words_per_minute: int = _NATURAL) -> Utterance:
    """Speak `text` with one of `VOICES`: the same samples every time. Words are as Flite reads them: "7" is "seven".

    Raises `ConfigError` where Flite is not installed or has no such voice.
    """
    if voice not in VOICES:
        raise ConfigError(f"Flite has no voice {voice!r}: expected one of {', '.join(VOICES)}")
    library, shape = _library(), _voice(voice)
    library.feat_set_float(shape.contents.features, b"duration_stretch", _NATURAL / words_per_minute)
    ctypes.CDLL(None).srand(1)  # its excitation draws from C's random numbers
    utterance = library.flite_synth_text(text.replace("\0", " ").encode("utf-8", errors="replace"), shape)
    try:
        wave = library.utt_wave(utterance).contents
        samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)) if wave.num_samples else np.zeros(0)
        return Utterance(samples.astype(np.float32) / 32768, wave.sample_rate, _words(library, utterance))
    finally:
        library.delete_utterance(utterance)


def _words(library: ctypes.CDLL, utterance: int) -> tuple[tuple[str, float, float], ...]:
    """Each with the time of its first segment and its last."""
    found: list[tuple[str, float, float]] = []
    word = library.relation_head(library.utt_relation(utterance, b"Word"))
    while word:
        first = library.flite_ffeature_float(word, b"R:SylStructure.daughter1.daughter1.R:Segment.p.end")
        last = library.flite_ffeature_float(word, b"R:SylStructure.daughtern.daughtern.R:Segment.end")
        name = library.flite_ffeature_string(word, b"name").decode("utf-8", errors="replace")
        found.append((name, round(first, 3), round(last, 3)))
        word = library.item_next(word)
    return tuple(found)


@cache
def _library() -> ctypes.CDLL:
    library = _loaded("flite")
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    for name, result, arguments in (
        ("feat_set_float", None, (pointer, text, ctypes.c_float)),
        ("flite_synth_text", pointer, (text, ctypes.POINTER(_Voice))),
        ("utt_wave", ctypes.POINTER(_Wave), (pointer,)),
        ("utt_relation", pointer, (pointer, text)),
        ("relation_head", pointer, (pointer,)),
        ("item_next", pointer, (pointer,)),
        ("flite_ffeature_float", ctypes.c_float, (pointer, text)),
        ("flite_ffeature_string", text, (pointer, text)),
        ("delete_utterance", None, (pointer,)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.flite_init()
    return library


@cache
def _voice(name: str) -> "ctypes._Pointer[_Voice]":
    _library()
    register = getattr(_loaded(f"flite_cmu_us_{name}"), f"register_cmu_us_{name}")
    register.restype, register.argtypes = ctypes.POINTER(_Voice), (ctypes.c_char_p,)
    return register(None)


def _loaded(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(ctypes.util.find_library(name) or f"lib{name}.so.1")
    except OSError:
        raise ConfigError(f"voices of Flite need lib{name}: apt install libflite1, or brew install flite") from None
