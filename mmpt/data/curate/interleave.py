"""Text corpora to speech-text documents: random spans of words are spoken.

Zeng et al. 2024, "Scaling Speech-Text Pre-training with Synthetic Interleaved Data", section 2.2: span lengths from a Poisson
distribution (λ = 10 words), spans drawn until a share of the words (η = 0.3) is spoken.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Literal, Protocol

import numpy as np
import pydantic
import soxr

from mmpt.config import Schema
from mmpt.data.lost import Documents, Lost
from mmpt.data.parts import speech_part
from mmpt.data.sources import shards
from mmpt.data.sources.base import Unit
from mmpt.data.sources.espeak import Speaker
from mmpt.document import Document, Part, Speech, Text
from mmpt.errors import DataError
from mmpt.media import encode_flac

SAMPLE_RATE = 16_000
_WORD = re.compile(r"\S+")
_HAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # and kana: written without spaces
_SPOKEN_WORD = re.compile(rf"[{_HAN}][^\w\s]*|[^\s{_HAN}]+")
_PART_OF_WORD = re.compile(r"[\w'’]+")  # of "twenty-two", two


class Speak(Protocol):
    """A voice: what it says for `text`. `random` is the document's own; the same state must give the same utterance."""

    def __call__(self, text: str, random: np.random.Generator) -> Speech: ...


class Seeded(Protocol):
    """What decides about chance."""

    seed: int
    epoch: int


class EspeakConfig(Schema):
    """Spoken by espeak-ng, each document in one of `voices` at a rate (words a minute) between the two of `rate`."""

    kind: Literal["espeak"] = "espeak"
    voices: tuple[str, ...] = ("en-us", "en-us+f3", "en-us+m3", "en-gb-scotland")
    rate: tuple[int, int] = (160, 210)


class AlignmentsConfig(Schema):
    """Cut from the utterances that the documents hold already: a span of the words of one, as text; the rest stays speech."""

    kind: Literal["alignments"] = "alignments"


class InterleaveConfig(Schema):
    """`mean_words` is λ, `ratio` is η. Equal (seed, epoch, document id) give equal spans, whatever else is in the corpus."""

    mean_words: float = pydantic.Field(10.0, gt=0)
    ratio: float = pydantic.Field(0.3, ge=0, le=1)
    seed: int = pydantic.Field(0, ge=0)
    epoch: int = pydantic.Field(0, ge=0)
    speech: Annotated[EspeakConfig | AlignmentsConfig, pydantic.Field(discriminator="kind")] = EspeakConfig()


class InterleaveJob(Schema):
    """The set in `folder`, interleaved as `spec` says."""

    folder: str
    spec: InterleaveConfig


def units(job: InterleaveJob) -> list[Unit]:
    """One for each shard."""
    return shards.units(shards.ShardsConfig(folder=job.folder))


def read(job: InterleaveJob, unit: Unit) -> Documents:
    """The interleaved documents of a shard."""
    return interleave(job.spec, shards.read(shards.ShardsConfig(folder=job.folder), unit))


def interleave(config: InterleaveConfig, documents: Iterable[Document | Lost]) -> Documents:
    """Each document with spans of its words exchanged between text and speech. What cannot be spoken stays text and is listed."""
    for document in documents:
        if isinstance(document, Lost):
            yield document
            continue
        random = document_random(config, document.id)
        unspoken: list[str] = []
        if config.speech.kind == "alignments":
            parts = [piece for part in document.parts for piece in _from_alignment(part, config, random, unspoken)]
        else:
            parts = _spoken(document, config, random, unspoken)
        yield from (Lost(document.id, reason, document.id, whole=False) for reason in unspoken)
        meta = {**document.meta, "interleaved": {"seed": config.seed, "epoch": config.epoch}}
        yield Document(document.id, document.source, tuple(parts), meta)


def document_random(config: Seeded, document_id: str) -> np.random.Generator:
    """The source of chance of one document in one epoch."""
    digest = hashlib.sha256(f"{config.seed} {config.epoch} {document_id}".encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))


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
        length = min(length, max(end - start for start, end in free))
        starts = [max(0, end - start - length + 1) for start, end in free]
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


def _spoken(document: Document, config: InterleaveConfig, random: np.random.Generator, unspoken: list[str]) -> list[Part]:
    voice = config.speech.voices[int(random.integers(len(config.speech.voices)))]
    rate = int(random.integers(config.speech.rate[0], config.speech.rate[1] + 1))
    with Speaker() as speaker:

        def speak(text: str, _: np.random.Generator) -> Speech:
            utterance = speaker.speak(text, voice, rate)
            if not len(utterance.samples):
                raise DataError(f"nothing to be heard of {text!r}")
            samples = soxr.resample(utterance.samples, utterance.sample_rate, SAMPLE_RATE)
            data, seconds = encode_flac(samples, SAMPLE_RATE), len(samples) / SAMPLE_RATE
            return Speech(data, "flac", SAMPLE_RATE, seconds, text, utterance.words)

        return [piece for part in document.parts for piece in _from_text(part, config, random, speak, unspoken)]


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where the words of a text lie: what stands between spaces; of Chinese and Japanese, which have none, each character with
    the punctuation behind it."""
    return [match.span() for match in _SPOKEN_WORD.finditer(text)]


def _from_text(
    part: Part, config: InterleaveConfig, random: np.random.Generator, speak: Speak, unspoken: list[str]
) -> list[Part]:
    if not isinstance(part, Text):
        return [part]
    places = word_spans(part.text)

    def span(first: int, last: int, text: str) -> Speech:
        if not any(character.isalnum() for character in text):
            raise DataError(f"nothing to be heard of {text!r}")  # dashes alone
        return speak(text, random)

    return _by_turns(part.text, part.weight, places, config, random, span, unspoken)


def _from_alignment(part: Part, config: InterleaveConfig, random: np.random.Generator, unspoken: list[str]) -> list[Part]:
    """An utterance with word times as speech and text by turns: `ratio` of its words stay speech."""
    if not isinstance(part, Speech) or not part.words:
        return [part]
    text = part.text or " ".join(word for word, _, _ in part.words)
    places = word_places(text, [word for word, _, _ in part.words])
    if places is None:
        unspoken.append(f"the words with times are not those of {text[:80]!r}: kept as speech")
        return [part]

    def span(first: int, last: int, text: str) -> Speech:
        start, end = part.words[first][1], part.words[last - 1][2]
        times = tuple((word, begin - start, stop - start) for word, begin, stop in part.words[first:last])
        return speech_part(part.data, text, times, start=start, duration=end - start)

    return _by_turns(text, part.weight, places, config, random, span, unspoken)


def _by_turns(
    text: str,
    weight: float,
    places: list[tuple[int, int]],
    config: InterleaveConfig,
    random: np.random.Generator,
    speech: Callable[[int, int, str], Speech],
    unspoken: list[str],
) -> list[Part]:
    """`text` as text and speech by turns, by spans of the words at `places`; joined, they are the text to the last space."""
    found: list[Part] = []
    at = 0
    for first, last in draw_spans(len(places), config.mean_words, config.ratio, random):
        start, end = places[first][0], places[last - 1][1]
        try:
            spoken = replace(speech(first, last, text[start:end]), weight=weight)
        except DataError as problem:
            unspoken.append(f"{text[start:end][:80]!r} stays text: {problem}")
            continue
        found += [Text(text[at:start], weight), spoken] if start > at else [spoken]
        at = end
    return [*found, Text(text[at:], weight)] if at < len(text) else found


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
