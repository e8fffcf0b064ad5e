"""Text corpora to speech-text token shards without any waveform: random spans of words become speech codes.

As `interleave` (Zeng et al. 2024, section 2.2), the codes coming from a text-to-token model at once.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pydantic

from mmpt.config import Schema
from mmpt.data.curate.interleave import WORD, document_random, draw_spans
from mmpt.data.lost import Lost
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.sources import shards
from mmpt.data.sources.base import Unit
from mmpt.document import Document, Text
from mmpt.tokenizers.text import encode_text, load_text_tokenizer, text_fingerprint
from mmpt.vocabulary import Vocabulary

BATCH = 64
"""Documents whose spans are spoken together."""


class TextToCodesSpeech(Schema):
    """Spoken by the text-to-token model in the folder `model`, in codes of the speech tokenizer that it was trained with; `text`
    is the language model's text tokenizer, a folder or Hugging Face name. The result are token shards."""

    kind: Literal["text_to_codes"] = "text_to_codes"
    model: Path
    text: str
    temperature: float = pydantic.Field(0.7, ge=0)
    top_k: int = pydantic.Field(20, ge=1)


class SpeakCodesConfig(Schema):
    """`mean_words` is λ, `ratio` is η. Equal (seed, epoch, document id) give equal spans, whatever else is in the corpus."""

    mean_words: float = pydantic.Field(10.0, gt=0)
    ratio: float = pydantic.Field(0.3, ge=0, le=1)
    seed: int = pydantic.Field(0, ge=0)
    epoch: int = pydantic.Field(0, ge=0)
    speech: TextToCodesSpeech


class SpeakCodesJob(Schema):
    """The set in `folder`, spoken in part as `spec` says."""

    folder: str
    spec: SpeakCodesConfig


def vocabulary(spec: SpeakCodesConfig) -> Vocabulary:
    """Text, and the codes that the model speaks."""
    model, text = _models(spec.speech)
    return Vocabulary(
        text_size=len(text),
        text_fingerprint=text_fingerprint(text),
        image_codes=0,
        codes_per_image=0,
        speech_codes=model.speech.codes,
        speech_rate=model.speech.rate,
    )


def read(job: SpeakCodesJob, unit: Unit) -> Iterator[TokenDocument | Lost]:
    """The token documents of a shard: `<|begin|>`, text and speech by turns, `<|end|>`.

    A span that cannot be spoken stays text and is listed; a document with other than text is listed.
    """
    stream = shards.read(shards.ShardsConfig(folder=job.folder), unit)
    while batch := list(islice(stream, BATCH)):
        yield from (one for one in batch if isinstance(one, Lost))
        documents = [one for one in batch if isinstance(one, Document)]
        foreign = [one for one in documents if not all(isinstance(part, Text) for part in one.parts)]
        yield from (Lost(one.id, "holds more than text", one.id) for one in foreign)
        yield from _spoken([one for one in documents if one not in foreign], job.spec)


def _spoken(documents: Sequence[Document], spec: SpeakCodesConfig) -> Iterator[TokenDocument | Lost]:
    model, text = _models(spec.speech)
    words = vocabulary(spec)
    pieces = [[piece for part in one.parts for piece in _pieces(part, one, spec)] for one in documents]
    asked = [content for row in pieces for spoken, content, _ in row if spoken]
    options = {"temperature": spec.speech.temperature, "top_k": spec.speech.top_k, "seed": spec.seed + spec.epoch}
    answers = iter(model.speak([content for content in asked if _can_be_said(content)], **options))
    for document, row in zip(documents, pieces, strict=True):
        ids, weights = [words.special("<|begin|>")], [0.0]
        for spoken, content, weight in row:
            answer = next(answers) if spoken and _can_be_said(content) else None
            if answer is not None and answer.finished and len(answer.codes):
                new = words.encode_speech(answer.codes)
            else:
                new = encode_text(text, content)
                if spoken:
                    why = "no end within the limit" if answer else "nothing to be heard of it"
                    yield Lost(document.id, f"{content[:80]!r} stays text: {why}", document.id, whole=False)
            ids += new
            weights += [weight] * len(new)
        ids.append(words.special("<|end|>"))
        weights.append(1.0)
        yield TokenDocument(document.id, document.source, np.array(ids), np.array(weights, dtype=np.float32))


def _pieces(part: Text, document: Document, spec: SpeakCodesConfig) -> Iterator[tuple[bool, str, float]]:
    """(spoken, content, weight): text and spans of words by turns; joined, they are the text to the last space."""
    places = [match.span() for match in WORD.finditer(part.text)]
    at = 0
    for first, last in draw_spans(len(places), spec.mean_words, spec.ratio, document_random(spec, document.id)):
        start, end = places[first][0], places[last - 1][1]
        if start > at:
            yield False, part.text[at:start], part.weight
        yield True, part.text[start:end], part.weight
        at = end
    if at < len(part.text):
        yield False, part.text[at:], part.weight


def _can_be_said(text: str) -> bool:
    return any(character.isalnum() for character in text)


@lru_cache(maxsize=1)
def _models(speech: TextToCodesSpeech):
    """Loaded once in each process, and torch with them."""
    from mmpt.tokenizers.speech.text_to_codes import TextToCodes

    return TextToCodes.load(speech.model), load_text_tokenizer(speech.text)
