"""Spans cut from utterances that the documents hold already."""

import numpy as np

from mmpt.data.curate.spans import Spans, by_turns, word_places
from mmpt.data.curate.voices import SoundVoice
from mmpt.data.parts import speech_part
from mmpt.document import Document, Part, Speech


class Alignments(SoundVoice):
    """Utterances with word times as speech and text by turns, as Nguyen et al. 2024 do in "Spirit LM" (arXiv:2402.05755): spans
    of their words stay speech, the rest becomes text."""

    def parts(self, document: Document, spans: Spans, random: np.random.Generator, unspoken: list[str]) -> list[Part]:
        return [piece for part in document.parts for piece in _pieces(part, spans, random, unspoken)]


def _pieces(part: Part, spans: Spans, random: np.random.Generator, unspoken: list[str]) -> list[Part]:
    if not isinstance(part, Speech) or not part.words:
        return [part]
    text = part.text or " ".join(word for word, _, _ in part.words)
    places = word_places(text, [word for word, _, _ in part.words])
    if places is None:
        unspoken.append(f"the words with times are not those of {text[:80]!r}: kept as speech")
        return [part]

    def cut(first: int, last: int, text: str) -> Speech:
        start, end = part.words[first][1], part.words[last - 1][2]
        times = tuple((word, begin - start, stop - start) for word, begin, stop in part.words[first:last])
        return speech_part(part.data, text, times, start=start, duration=end - start)

    return by_turns(text, part, places, spans, random, cut, unspoken)
