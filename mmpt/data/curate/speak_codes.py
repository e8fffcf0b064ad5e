"""Text corpora to speech-text token shards without any waveform: random spans of words become speech codes.

As `interleave` (Zeng et al. 2024, section 2.2), the codes coming from a text-to-token model at once.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pydantic

from mmpt.config import Schema
from mmpt.data.curate.interleave import document_random, draw_spans, word_spans
from mmpt.data.lost import Lost
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.sources import shards
from mmpt.data.sources.base import Unit
from mmpt.document import Document, Image, Speech, Text
from mmpt.errors import DataError
from mmpt.media import decode_image
from mmpt.tokenizers.text import encode_text, load_text_tokenizer, text_fingerprint
from mmpt.vocabulary import Vocabulary

if TYPE_CHECKING:
    from mmpt.tokenizers.image.tokenizer import ImageTokenizer

BATCH = 64
"""Documents whose spans are spoken together."""


class TextToCodesSpeech(Schema):
    """Spoken by the text-to-token model in the folder `model`, in codes of the speech tokenizer that it was trained with; `text`
    is the language model's text tokenizer, a folder or Hugging Face name, and `image` the folder of its image tokenizer, so that
    the result, token shards, goes with those of other data in one training. Pictures are encoded where they stand."""

    kind: Literal["text_to_codes"] = "text_to_codes"
    model: Path
    text: str
    image: Path | None = None
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
    """Text, the codes of the image tokenizer where there is one, and the codes that the model speaks."""
    model, text, image = _models(spec.speech)
    return Vocabulary(
        text_size=len(text),
        text_fingerprint=text_fingerprint(text),
        image_codes=image.codes if image else 0,
        codes_per_image=image.codes_per_image if image else 0,
        speech_codes=model.speech.codes,
        speech_rate=model.speech.rate,
    )


def read(job: SpeakCodesJob, unit: Unit) -> Iterator[TokenDocument | Lost]:
    """The token documents of a shard: `<|begin|>`, text, speech and pictures by turns, `<|end|>`.

    A span that cannot be spoken stays text and is listed; a document with an utterance, with a picture that cannot be decoded, or
    with one where there is no image tokenizer, is listed.
    """
    image = _models(job.spec.speech)[2]
    stream = shards.read(shards.ShardsConfig(folder=job.folder), unit)
    while batch := list(islice(stream, BATCH)):
        yield from (one for one in batch if isinstance(one, Lost))
        documents = [one for one in batch if isinstance(one, Document)]
        fit = []
        for one in documents:
            try:
                fit.append((one, _picture_codes(one, image)))
            except DataError as problem:
                yield Lost(one.id, str(problem), one.id)
        yield from _spoken(fit, job.spec)


def _picture_codes(document: Document, image: "ImageTokenizer | None") -> list[np.ndarray]:
    """The codes of each picture. Raises `DataError` on parts that have no place in the result."""
    if any(isinstance(part, Speech) for part in document.parts):
        raise DataError("holds an utterance; its words would be spoken by another voice")
    pictures = [part for part in document.parts if isinstance(part, Image)]
    if pictures and image is None:
        raise DataError("holds a picture, and the specification has no image tokenizer (speech.image)")
    return list(image.encode([decode_image(part.data) for part in pictures])) if pictures else []


def _spoken(documents: Sequence[tuple[Document, list[np.ndarray]]], spec: SpeakCodesConfig) -> Iterator[TokenDocument | Lost]:
    model, text, _ = _models(spec.speech)
    words = vocabulary(spec)
    pieces = [[piece for part in one.parts for piece in _pieces(part, one, spec)] for one, _ in documents]
    asked = [content for row in pieces for spoken, content, _ in row if spoken]
    options = {"temperature": spec.speech.temperature, "top_k": spec.speech.top_k, "seed": spec.seed + spec.epoch}
    answers = iter(model.speak([content for content in asked if _can_be_said(content)], **options))
    for (document, codes), row in zip(documents, pieces, strict=True):
        ids, weights, pictures = [words.special("<|begin|>")], [0.0], iter(codes)
        for spoken, content, weight in row:
            if content is None:
                new = words.encode_image(next(pictures))
                ids, weights = ids + new, weights + [weight] * len(new)
                continue
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


def _pieces(part: Text | Image, document: Document, spec: SpeakCodesConfig) -> Iterator[tuple[bool, str | None, float]]:
    """(spoken, content, weight): text and spans of words by turns; joined, they are the text to the last space. A picture has no
    content."""
    if isinstance(part, Image):
        yield False, None, part.weight
        return
    places = word_spans(part.text)
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
    from mmpt.tokenizers.image.tokenizer import ImageTokenizer
    from mmpt.tokenizers.speech.text_to_codes import TextToCodes

    image = ImageTokenizer.load(speech.image) if speech.image else None
    return TextToCodes.load(speech.model), load_text_tokenizer(speech.text), image
