"""Items of benchmarks from any source of documents: utterances and pictures with what they say and show."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from mmpt.data.lost import Lost
from mmpt.data.sources import Source
from mmpt.document import Document, Image, Speech, Text
from mmpt.errors import DataError

T = TypeVar("T")


class Utterance(NamedTuple):
    """The first utterance of document `item`, and what it says."""

    item: str
    speech: Speech
    text: str


class Captioned(NamedTuple):
    """The first picture of document `item`, and what is said of it."""

    item: str
    image: Image
    text: str


@dataclass(frozen=True)
class Found(Generic[T]):
    """The `items` of a source, and what was `missing` with its reason."""

    items: list[T]
    missing: list[str]


def utterances_of(source: Source, limit: int | None) -> Found[Utterance]:
    """The `Utterance`s of documents that have speech with a text: its transcript, else the text beside it. Raises `DataError`
    where there is none."""
    return _items(source, limit, _utterance, "speech part with a text")


def captioned_of(source: Source, limit: int | None) -> Found[Captioned]:
    """The `Captioned` pictures of documents that have one: with the text beside it, else its alternative text. Raises `DataError`
    where there is none."""
    return _items(source, limit, _captioned, "picture with a text")


def _items(source: Source, limit: int | None, make: Callable[[Document], T | None], what: str) -> Found[T]:
    found: Found[T] = Found([], [])
    for document in source.documents():
        if isinstance(document, Lost):
            found.missing.append(f"{document.item}: {document.reason}")
            continue
        item = make(document)
        if item is None:
            found.missing.append(f"{document.id}: no {what}")
            continue
        found.items.append(item)
        if limit is not None and len(found.items) == limit:
            break
    if not found.items:
        raise DataError(f"{source.kind}: no document has a {what}")
    return found


def _utterance(document: Document) -> Utterance | None:
    speech = next((part for part in document.parts if isinstance(part, Speech)), None)
    text = "" if speech is None else speech.text or _text(document)
    return Utterance(document.id, speech, text) if speech is not None and text else None


def _captioned(document: Document) -> Captioned | None:
    image = next((part for part in document.parts if isinstance(part, Image)), None)
    text = "" if image is None else _text(document) or image.alt
    return Captioned(document.id, image, text) if image is not None and text else None


def _text(document: Document) -> str:
    return next((part.text for part in document.parts if isinstance(part, Text)), "")
