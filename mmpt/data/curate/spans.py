"""Spans of words: which are drawn to be spoken, and where the words of a text lie."""

import hashlib
import re
from collections.abc import Callable, Sequence

import numpy as np
import pydantic

from mmpt.config import Schema
from mmpt.document import Part, Speech, Text, in_place_of
from mmpt.errors import DataError

_WORD = re.compile(r"\S+")
_HAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # and kana: written without spaces
_SPOKEN_WORD = re.compile(rf"[{_HAN}][^\w\s]*|[^\s{_HAN}]+")
_PART_OF_WORD = re.compile(r"[\w'’]+")  # of "twenty-two", two


class Spans(Schema):
    """How spans of words are drawn. Equal (seed, epoch, document id) give equal spans, whatever else is in the corpus."""

    mean_words: float = pydantic.Field(default=10.0, gt=0)
    """Words of a span on average: λ of the Poisson distribution of their lengths."""
    ratio: float = pydantic.Field(default=0.3, ge=0, le=1)
    """Share of the words that are in spans, η."""
    seed: int = pydantic.Field(default=0, ge=0)
    """What the spans are drawn with."""
    epoch: int = pydantic.Field(default=0, ge=0)
    """Another epoch, other spans."""

    def random(self, document_id: str) -> np.random.Generator:
        """The source of chance of one document in one epoch."""
        digest = hashlib.sha256(f"{self.seed} {self.epoch} {document_id}".encode("utf-8", "surrogatepass")).digest()
        return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))

    def draw(self, words: int, random: np.random.Generator) -> list[tuple[int, int]]:
        """Spans of `words` words, see `draw_spans`."""
        return draw_spans(words, self.mean_words, self.ratio, random)


def draw_spans(words: int, mean_words: float, ratio: float, random: np.random.Generator) -> list[tuple[int, int]]:
    """Spans (first word, one past the last) of `words` words that do not touch, in order.

    Lengths are Poisson(`mean_words`), at least 1, positions uniform over what is free; drawn until at least `ratio` of the
    words are in spans, so the share goes beyond it by less than one span, or until no gap takes another.
    """
    free: list[tuple[int, int]] = [(0, words)] if words else []
    spans: list[tuple[int, int]] = []
    covered = 0
    while free and covered < ratio * words:
        length = max(1, int(random.poisson(mean_words)))
        length = min(length, max(end - start for start, end in free))  # else no gap could take it, and none were drawn again
        starts = [max(0, end - start - length + 1) for start, end in free]
        # Gap by gap, each with as many starts as it has room for: uniform over all places in the text.
        place = int(random.integers(sum(starts)))
        for number, (start, end) in enumerate(free):
            if place < starts[number]:
                first, last = start + place, start + place + length
                pieces = [(start, first - 1), (last + 1, end)]  # one word of text between two spans
                free[number : number + 1] = [piece for piece in pieces if piece[1] > piece[0]]
                spans.append((first, last))
                covered += length
                break
            place -= starts[number]
    return sorted(spans)


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where the words of a text lie: what stands between spaces; of Chinese and Japanese, which have none, each character with
    the punctuation behind it."""
    return [match.span() for match in _SPOKEN_WORD.finditer(text)]


def by_turns(
    text: str,
    before: Part,
    places: list[tuple[int, int]],
    spans: Spans,
    random: np.random.Generator,
    speech: Callable[[int, int, str], Speech],
    unspoken: list[str],
) -> list[Part]:
    """`text` as text and speech by turns, by spans of the words at `places`; joined, they are the text to the last space. All
    are in the place of the part `before`."""
    found: list[Part] = []
    at = 0
    for first, last in spans.draw(len(places), random):
        start, end = places[first][0], places[last - 1][1]
        try:
            spoken = speech(first, last, text[start:end])
        except DataError as problem:
            unspoken.append(f"{text[start:end][:80]!r} stays text: {problem}")
            continue
        found += [Text(text[at:start]), spoken] if start > at else [spoken]
        at = end
    return [in_place_of(part, before) for part in ([*found, Text(text[at:])] if at < len(text) else found)]


def word_places(text: str, words: Sequence[str]) -> list[tuple[int, int]] | None:
    """Where each of `words` stands in `text` (start, end), case and punctuation aside; None where they are not in it in order.

    Words of the text that are not listed, as espeak-ng leaves them out where it runs words together, belong to the one before.
    """
    plain = [_plain(word) for word in words]
    for pattern in (_WORD, _PART_OF_WORD):
        tokens = list(pattern.finditer(text))
        numbers = _subsequence(plain, [_plain(token.group()) for token in tokens])
        if numbers is not None:
            ends = [*numbers[1:], len(tokens)]
            return [(tokens[first].start(), tokens[end - 1].end()) for first, end in zip(numbers, ends, strict=True)]
    return None


def _subsequence(words: list[str], tokens: list[str]) -> list[int] | None:
    found: list[int] = []
    for word in words:
        at = next((number for number in range(found[-1] + 1 if found else 0, len(tokens)) if tokens[number] == word), None)
        if at is None:
            return None
        found.append(at)
    return found


def _plain(word: str) -> str:
    return "".join(character for character in word.casefold() if character.isalnum())
