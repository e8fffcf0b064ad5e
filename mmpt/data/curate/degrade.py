"""Interleaved documents to simpler ones: pairs of a picture and a text, or plain text. Every part that goes is listed."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Literal

from mmpt.config import Schema
from mmpt.data.lost import Documents, Lost
from mmpt.data.sources import shards
from mmpt.data.sources.base import Unit
from mmpt.document import Document, Image, Speech, Text

RULE = "degrade"


class DegradeConfig(Schema):
    """`to` pairs: each picture with its `text`, its alternative text or the nearest text part (of two as near the following).

    `to` text: the text parts joined where they have one loss weight; `transcripts` keeps what utterances say as text in place.
    """

    folder: str
    to: Literal["pairs", "text"]
    text: Literal["alt", "nearest"] = "nearest"
    transcripts: bool = True


def units(config: DegradeConfig) -> list[Unit]:
    """One for each shard."""
    return shards.units(shards.ShardsConfig(folder=config.folder))


def read(config: DegradeConfig, unit: Unit) -> Documents:
    """The degraded documents of a shard."""
    return degrade(config, shards.read(shards.ShardsConfig(folder=config.folder), unit))


def degrade(config: DegradeConfig, documents: Iterable[Document | Lost]) -> Documents:
    """Parts that are in no result come as `Lost` with the rule "degrade"; a document of which nothing is left, whole."""
    for document in documents:
        if isinstance(document, Lost):
            yield document
        elif config.to == "pairs":
            yield from _pairs(document, config.text)
        else:
            yield from _text(document, config.transcripts)


def _pairs(document: Document, which: str) -> Documents:
    texts = [place for place, part in enumerate(document.parts) if isinstance(part, Text)]
    pairs, kept = [], set()
    for place, part in enumerate(document.parts):
        if isinstance(part, Image):
            nearest = _nearest(texts, place) if which == "nearest" else None
            text = document.parts[nearest] if nearest is not None else Text(part.alt if which == "alt" else "", part.weight)
            if text.text.strip():
                kept |= {place, nearest}
                pairs.append(Document(f"{document.id}/{place}", document.source, (part, text), document.meta))
    yield from pairs
    if not pairs:
        yield Lost(document.id, "no pair in it", document.id, True, RULE)
        return
    for place, part in enumerate(document.parts):
        if place not in kept:
            reason = "a picture without a text" if isinstance(part, Image) else "in no pair"
            yield Lost(f"{document.id}, part {place}", reason, document.id, False, RULE)


def _nearest(places: list[int], place: int) -> int | None:
    return min(places, key=lambda other: (abs(other - place), other < place), default=None)


def _text(document: Document, transcripts: bool) -> Iterator[Document | Lost]:
    texts: list[Text] = []
    for place, part in enumerate(document.parts):
        if not (isinstance(part, Text) or isinstance(part, Speech) and transcripts):
            reason = f"{type(part).__name__.lower()} in plain text"
        elif not part.text.strip():
            reason = f"{type(part).__name__.lower()} without a word"
        else:
            texts.append(Text(part.text, part.weight))
            continue
        yield Lost(f"{document.id}, part {place}", reason, document.id, False, RULE)
    if texts:
        yield Document(document.id, document.source, tuple(_joined(texts)), document.meta)
    else:
        yield Lost(document.id, "no text in it", document.id, True, RULE)


def _joined(texts: list[Text]) -> Iterator[Text]:
    """Texts of one weight, which follow each other, as one; an empty line between any two."""
    groups = [(weight, [text.text for text in group]) for weight, group in groupby(texts, key=lambda text: text.weight)]
    for number, (weight, group) in enumerate(groups, start=1):
        yield Text("\n\n".join(group) + ("\n\n" if number < len(groups) else ""), weight)
