"""Spans spoken by espeak-ng."""

import numpy as np

from mmpt.data.curate.spans import Spans, by_turns, word_spans
from mmpt.data.curate.voices import SoundVoice
from mmpt.data.synthetic.espeak import Speaker
from mmpt.data.synthetic.read_aloud import read_aloud
from mmpt.document import Document, Part, Speech, Text


class Espeak(SoundVoice):
    """espeak-ng, a formant synthesiser (github.com/espeak-ng/espeak-ng): each document in one voice, at one rate."""

    voices: tuple[str, ...] = ("en-us", "en-us+f3", "en-us+m3", "en-gb-scotland")
    """espeak-ng's names of the voices, of which each document gets one."""
    rate: tuple[int, int] = (160, 210)
    """Words a minute, at least and at most."""

    def parts(self, document: Document, spans: Spans, random: np.random.Generator, unspoken: list[str]) -> list[Part]:
        voice = self.voices[int(random.integers(len(self.voices)))]
        rate = int(random.integers(self.rate[0], self.rate[1] + 1))
        found: list[Part] = []
        with Speaker() as speaker:

            def speak(first: int, last: int, text: str) -> Speech:
                return read_aloud(speaker, text, voice, rate)

            for part in document.parts:
                if isinstance(part, Text):
                    found += by_turns(part.text, part, word_spans(part.text), spans, random, speak, unspoken)
                else:
                    found.append(part)
        return found
