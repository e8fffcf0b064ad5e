"""Text read aloud by espeak-ng or Flite, as a part of a document."""

import soxr

from mmpt.data.synthetic import flite
from mmpt.data.synthetic.espeak import Speaker
from mmpt.data.synthetic.utterance import Utterance
from mmpt.document import Speech
from mmpt.errors import DataError
from mmpt.media import encode_flac
from mmpt.modality import SAMPLE_RATE

FLITE = "flite:"
"""What the names of Flite's voices begin with."""


def can_be_said(text: str) -> bool:
    """Whether there is anything to be heard of a text: dashes alone are silent."""
    return any(character.isalnum() for character in text)


def read_aloud(speaker: Speaker, text: str, voice: str, words_per_minute: int = 190, pitch: int = 50) -> Speech:
    """FLAC at 16 kHz with its transcript and word times, in a voice of espeak-ng, or of Flite: "flite:slt". `pitch` 0 to 99, of
    espeak-ng alone. Raises `DataError` where there is nothing to be heard, `ConfigError` where there is no such voice."""
    utterance = _said(speaker, text, voice, words_per_minute, pitch) if can_be_said(text) else None
    if utterance is None or not len(utterance.samples):
        raise DataError(f"nothing to be heard of {text!r}")
    samples = soxr.resample(utterance.samples, utterance.sample_rate, SAMPLE_RATE)
    return Speech(encode_flac(samples, SAMPLE_RATE), "flac", SAMPLE_RATE, len(samples) / SAMPLE_RATE, text, utterance.words)


def _said(speaker: Speaker, text: str, voice: str, words_per_minute: int, pitch: int) -> Utterance:
    if voice.startswith(FLITE):
        return flite.speak(text, voice.removeprefix(FLITE), words_per_minute)
    return speaker.speak(text, voice, words_per_minute, pitch)
