"""Text read aloud by espeak-ng, as a part of a document."""

import soxr

from mmpt.data.synthetic.espeak import Speaker
from mmpt.document import Speech
from mmpt.errors import DataError
from mmpt.media import encode_flac
from mmpt.modality import SAMPLE_RATE


def can_be_said(text: str) -> bool:
    """Whether there is anything to be heard of a text: dashes alone are silent."""
    return any(character.isalnum() for character in text)


def read_aloud(speaker: Speaker, text: str, voice: str, words_per_minute: int = 190, pitch: int = 50) -> Speech:
    """FLAC at 16 kHz with its transcript and word times; `pitch` 0 to 99. Raises `DataError` where there is nothing to be heard,
    `ConfigError` where there is no such voice."""
    utterance = speaker.speak(text, voice, words_per_minute, pitch) if can_be_said(text) else None
    if utterance is None or not len(utterance.samples):
        raise DataError(f"nothing to be heard of {text!r}")
    samples = soxr.resample(utterance.samples, utterance.sample_rate, SAMPLE_RATE)
    return Speech(encode_flac(samples, SAMPLE_RATE), "flac", SAMPLE_RATE, len(samples) / SAMPLE_RATE, text, utterance.words)
