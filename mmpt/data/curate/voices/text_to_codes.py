"""Spans that become speech codes at once, without any waveform."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import pydantic

from mmpt.data.curate.spans import Spans, word_spans
from mmpt.data.curate.voices import Voice
from mmpt.data.lost import Lost
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.synthetic.read_aloud import can_be_said
from mmpt.document import Document, Image, Speech, Text
from mmpt.errors import DataError
from mmpt.media import decode_image
from mmpt.tokenizers.figures import NO_IMAGES
from mmpt.tokenizers.text import encode_text, load_text_tokenizer, text_fingerprint
from mmpt.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from mmpt.tokenizers.interface import AnyImageTokenizer
    from mmpt.tokenizers.speech.text_to_codes import TextToCodes as TextToCodesModel

BATCH = 64
"""Documents whose spans are spoken together."""


class TextToCodes(Voice):
    """A text-to-token model, in codes of the speech tokenizer that it was trained with: Zeng et al. 2024, "Scaling Speech-Text
    Pre-training with Synthetic Interleaved Data" (arXiv:2411.17607), section 2.1.

    The result are token shards. Pictures are encoded where they stand. A conversation, and a document with an utterance, with a
    picture that cannot be decoded, or with one where there is no image tokenizer, are listed.
    """

    carries: ClassVar[tuple[str, ...]] = ("Scaling Speech-Text Pre-training (synthetic interleaved; GLM-4-Voice base)",)

    model: Path
    """Folder of the text-to-token model."""
    text: str
    """The language model's text tokenizer, a folder or Hugging Face name."""
    image: Path | None = None
    """Folder of its image tokenizer, so that the result goes with tokens of other data in one training; None: no pictures."""
    temperature: float = pydantic.Field(default=0.7, ge=0)
    """Of the distribution that codes are drawn from; 0: the likeliest."""
    top_k: int = pydantic.Field(default=20, ge=1)
    """Likeliest codes among which is drawn."""

    def vocabulary(self) -> Vocabulary:
        """Text, the codes of the image tokenizer where there is one, and the codes that the model speaks."""
        loaded = self._loaded()
        image, speech = loaded.image, loaded.model.speech
        return Vocabulary(
            text_size=len(loaded.text),
            text_fingerprint=text_fingerprint(loaded.text),
            **(image.figures.in_vocabulary() if image else NO_IMAGES),
            speech_codes=speech.codes,
            speech_rate=speech.rate,
        )

    def interleave(self, spans: Spans, documents: Iterable[Document | Lost]) -> Iterator[TokenDocument | Lost]:
        """The token documents of a shard: `<|begin|>`, text, speech and pictures by turns, `<|end|>`."""
        image, stream = self._loaded().image, iter(documents)
        while batch := list(islice(stream, BATCH)):
            yield from (one for one in batch if isinstance(one, Lost))
            fit: list[_Work] = []
            for one in batch:
                if isinstance(one, Lost):
                    continue
                try:
                    codes = _picture_codes(one, image)
                    fit.append(_Work(one, [piece for part in one.parts for piece in _pieces(part, one, spans)], codes))
                except DataError as problem:
                    yield Lost(one.id, str(problem), one.id)
            yield from self._spoken(fit, spans)

    def _loaded(self) -> "_Loaded":
        return _load(self.model, self.text, self.image)

    def _spoken(self, batch: Sequence["_Work"], spans: Spans) -> Iterator[TokenDocument | Lost]:
        loaded, words = self._loaded(), self.vocabulary()
        asked = [
            piece.content
            for work in batch
            for piece in work.pieces
            if piece.spoken and piece.content is not None and can_be_said(piece.content)
        ]
        # All spans of the batch at once: the model answers in the order in which it is asked.
        answers = iter(loaded.model.speak(asked, temperature=self.temperature, top_k=self.top_k, seed=spans.seed + spans.epoch))
        for document, pieces, codes in batch:
            ids, weights, pictures = [words.special("<|begin|>")], [0.0], iter(codes)
            for spoken, content, weight in pieces:
                if content is None:
                    new = words.encode_image(next(pictures))
                    ids, weights = ids + new, weights + [weight] * len(new)
                    continue
                answer = next(answers) if spoken and can_be_said(content) else None
                if answer is not None and answer.finished and len(answer.codes):
                    new = words.encode_speech(answer.codes)
                else:
                    new = encode_text(loaded.text, content)
                    if spoken:
                        why = "no end within the limit" if answer else "nothing to be heard of it"
                        yield Lost(document.id, f"{content[:80]!r} stays text: {why}", document.id, whole=False)
                ids += new
                weights += [weight] * len(new)
            ids.append(words.special("<|end|>"))
            weights.append(1.0)
            yield TokenDocument(document.id, document.source, np.array(ids), np.array(weights, dtype=np.float32))


class _Loaded(NamedTuple):
    """The models that a voice speaks and writes with."""

    model: "TextToCodesModel"
    text: "PreTrainedTokenizerBase"
    image: "AnyImageTokenizer | None"


class _Piece(NamedTuple):
    """A stretch of a document, to be spoken or not; a picture has no content."""

    spoken: bool
    content: str | None
    weight: float


class _Work(NamedTuple):
    """A document, its pieces, and the codes of each of its pictures."""

    document: Document
    pieces: list[_Piece]
    codes: list[np.ndarray]


def _picture_codes(document: Document, image: "AnyImageTokenizer | None") -> list[np.ndarray]:
    """The codes of each picture. Raises `DataError` on parts that have no place in the result."""
    if any(part.role for part in document.parts):
        raise DataError("is a conversation, whose turns would be run together")
    if any(isinstance(part, Speech) for part in document.parts):
        raise DataError("holds an utterance; its words would be spoken by another voice")
    pictures = [part for part in document.parts if isinstance(part, Image)]
    if not pictures:
        return []
    if image is None:
        raise DataError("holds a picture, and the specification has no image tokenizer (speech.image)")
    return list(image.encode([decode_image(part.data) for part in pictures]))


def _pieces(part: Text | Image | Speech, document: Document, spans: Spans) -> Iterator[_Piece]:
    """Text and spans of words by turns; joined, they are the text to the last space."""
    if not isinstance(part, Text):
        yield _Piece(False, None, part.weight)
        return
    places = word_spans(part.text)
    at = 0
    for first, last in spans.draw(len(places), spans.random(document.id)):
        start, end = places[first][0], places[last - 1][1]
        if start > at:
            yield _Piece(False, part.text[at:start], part.weight)
        yield _Piece(True, part.text[start:end], part.weight)
        at = end
    if at < len(part.text):
        yield _Piece(False, part.text[at:], part.weight)


@lru_cache(maxsize=1)
def _load(model: Path, text: str, image: Path | None) -> _Loaded:
    """Loaded once in each process, and torch with them."""
    from mmpt.tokenizers.load import load_image
    from mmpt.tokenizers.speech.text_to_codes import TextToCodes as TextToCodesModel

    pictures = load_image(image) if image else None
    return _Loaded(TextToCodesModel.load(model), load_text_tokenizer(text), pictures)
