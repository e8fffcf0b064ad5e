"""Text corpora to speech-text documents: random spans of words are spoken.

Zeng et al. 2024, "Scaling Speech-Text Pre-training with Synthetic Interleaved Data", section 2.2: span lengths from a Poisson
distribution (λ = 10 words), spans drawn until a share of the words (η = 0.3) is spoken.
"""

import hashlib
import re
from collections.abc import Iterable
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


class Speak(Protocol):
    """A voice: what it says for `text`. `random` is the document's own; the same state must give the same utterance."""

    def __call__(self, text: str, random: np.random.Generator) -> Speech: ...


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
    """Each document with spans of its words exchanged between text and speech; one that cannot be spoken is listed."""
    for document in documents:
        if isinstance(document, Lost):
            yield document
            continue
        random = document_random(config, document.id)
        try:
            if config.speech.kind == "alignments":
                parts = [piece for part in document.parts for piece in _from_alignment(part, config, random)]
            else:
                parts = _spoken(document, config, random)
        except DataError as problem:
            yield Lost(document.id, str(problem), document.id)
            continue
        meta = {**document.meta, "interleaved": {"seed": config.seed, "epoch": config.epoch}}
        yield Document(document.id, document.source, tuple(parts), meta)


def document_random(config: InterleaveConfig, document_id: str) -> np.random.Generator:
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


def _spoken(document: Document, config: InterleaveConfig, random: np.random.Generator) -> list[Part]:
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

        return [piece for part in document.parts for piece in _from_text(part, config, random, speak)]


def _from_text(part: Part, config: InterleaveConfig, random: np.random.Generator, speak: Speak) -> list[Part]:
    """A text part as text and speech by turns; the texts and transcripts joined are the text, to the last space."""
    if not isinstance(part, Text):
        return [part]
    words = [match.span() for match in _WORD.finditer(part.text)]
    found: list[Part] = []
    at = 0
    for first, last in draw_spans(len(words), config.mean_words, config.ratio, random):
        start, end = words[first][0], words[last - 1][1]
        if not any(character.isalnum() for character in part.text[start:end]):
            continue  # dashes alone cannot be spoken
        if start > at:
            found.append(Text(part.text[at:start], part.weight))
        spoken = speak(part.text[start:end], random)
        found.append(Speech(**{**vars(spoken), "weight": part.weight}))
        at = end
    return [*found, Text(part.text[at:], part.weight)] if at < len(part.text) else found


def _from_alignment(part: Part, config: InterleaveConfig, random: np.random.Generator) -> list[Part]:
    """An utterance with word times as speech and text by turns: `ratio` of its words stay speech."""
    if not isinstance(part, Speech) or not part.words:
        return [part]
    found: list[Part] = []
    at = 0
    words = part.words
    for first, last in draw_spans(len(words), config.mean_words, config.ratio, random):
        if first > at:
            found.append(Text(" ".join(word for word, _, _ in words[at:first]), part.weight))
        start, end = words[first][1], words[last - 1][2]
        times = tuple((word, begin - start, stop - start) for word, begin, stop in words[first:last])
        text = " ".join(word for word, _, _ in words[first:last])
        piece = speech_part(part.data, text, times, start=start, duration=end - start)
        found.append(Speech(**{**vars(piece), "weight": part.weight}))
        at = last
    if at < len(words):
        found.append(Text(" ".join(word for word, _, _ in words[at:]), part.weight))
    return found
