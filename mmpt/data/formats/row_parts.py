"""From rows with pictures and recordings inside, as the Hugging Face hub has them, to the parts that a specification names."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any, Literal, TypeVar

import pydantic

from mmpt.config import Schema
from mmpt.data.formats.row_media import medium_bytes
from mmpt.data.lost import Documents, Lost
from mmpt.data.parts import image_part, speech_part
from mmpt.data.store import Store
from mmpt.document import Document, Part, Text
from mmpt.errors import DataError

Kind = Literal["image", "audio", "text"]
R = TypeVar("R")


class RowPart(Schema):
    """What of a row comes next in its document, by the names of columns.

    A list gives a part for each of its items. Where several of `image`, `audio` and `text` are named, their lists go side by
    side, place by place. Of names with ";" between them the first counts that the row has; "json.caption" is a key in a column.
    """

    image: str = ""
    """Column of pictures: {bytes, path} as the hub has them, bytes, or names of files."""
    audio: str = ""
    """Column of recordings, as of pictures."""
    text: str = ""
    """Column of text, or of numbers."""
    transcript: str = ""
    """Column of what is said in the recording."""
    weight: float = pydantic.Field(default=1.0, ge=0)
    """Of the loss of the part; 0: read, never learned."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> "RowPart":
        if not self.columns:
            raise ValueError("expected at least one of image, audio and text")
        if self.transcript and not self.audio:
            raise ValueError("transcript: expected a column of audio that it belongs to")
        return self

    @property
    def columns(self) -> list[tuple[Kind, str]]:
        named: list[tuple[Kind, str]] = [("image", self.image), ("audio", self.audio), ("text", self.text)]
        return [(kind, column) for kind, column in named if column]


def row_documents(rows: Iterable[tuple[str, str, R] | Lost], make: Callable[[str, str, R], Documents]) -> Documents:
    """What `make` gives of (where it lies, id of its document, row), and a `Lost` for each row of which it raises `DataError`."""
    for one in rows:
        if isinstance(one, Lost):
            yield one
            continue
        try:
            yield from make(*one)
        except DataError as problem:
            yield Lost(one[0], str(problem), one[1])


def row_document(document_id: str, source: str, parts: Sequence[Part], meta: dict) -> Document:
    """The document of a row. Raises `DataError` where nothing is in it."""
    if not parts:
        raise DataError("nothing in it")
    return Document(document_id, source, tuple(parts), meta)


def row_parts(row: dict, parts: tuple[RowPart, ...], store: Store, where: str, document: str) -> Iterator[Part | Lost]:
    """The parts of a row in order, and for each item of a list that cannot be read what was lost; null in a list is no item.

    `store` is the folder of files that a row names. Raises `DataError` where a column is not there, or where one that is no list
    cannot be read: then the row is no whole document.
    """
    for part in parts:
        columns: list[tuple[Kind, str, Any]] = [(kind, name, _column(row, name)) for kind, name in part.columns]
        transcripts = _column(row, part.transcript) if part.transcript else None
        if not any(isinstance(value, list) for _, _, value in columns):
            for kind, name, value in columns:
                yield _part(kind, name, value, transcripts, part.weight, store)
            continue
        if odd := [name for _, name, value in columns if not isinstance(value, list | None)]:
            raise DataError(f"{', '.join(odd)}: no list, as what goes beside it is")
        lists = [value or [] for _, _, value in columns]
        if len({len(one) for one in lists}) > 1:
            raise DataError(f"lists of {', '.join(str(len(one)) for one in lists)} items do not go together")
        said = transcripts if isinstance(transcripts, list) else []
        for place, (items, words) in enumerate(zip_longest(zip(*lists, strict=True), said[: len(lists[0])])):
            for (kind, name, _), item in zip(columns, items, strict=True):
                if item is None:
                    continue
                try:
                    yield _part(kind, name, item, words, part.weight, store)
                except DataError as problem:
                    lost = {"image": "image", "audio": "speech"}.get(kind, "")
                    yield Lost(f"{where}, {name} {place}", str(problem), document, whole=False, part=lost)


def meta_of(row: dict, columns: tuple[str, ...], **fixed: str) -> dict:
    """The meta of a document: `columns` of its row, and what is `fixed`, in so far as they say something."""
    found: dict[str, Any] = dict(fixed)
    for name in columns:
        value = row.get(name)
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise DataError(f"{name}: nothing that meta can hold") from None
        found[name] = value
    return {key: value for key, value in found.items() if value not in (None, "")}


def _column(row: dict, names: str) -> Any:
    for name in names.split(";"):
        if name in row:
            return row[name]
        head, dot, rest = name.partition(".")
        if dot and isinstance(row.get(head), dict) and rest in row[head]:
            return row[head][rest]
    raise DataError(f"no column {names!r} (there is {', '.join(map(str, row)) or 'nothing'})")


def _part(kind: Kind, name: str, value: object, transcript: object, weight: float, store: Store) -> Part:
    try:
        return _KINDS[kind](value, transcript, weight, store)
    except DataError as problem:
        raise DataError(f"{name}: {problem}") from None


def _image(value: object, transcript: object, weight: float, store: Store) -> Part:
    return _weighted(image_part(_bytes(value, store)), weight)


def _audio(value: object, transcript: object, weight: float, store: Store) -> Part:
    return _weighted(speech_part(_bytes(value, store), transcript if isinstance(transcript, str) else ""), weight)


def _text(value: object, transcript: object, weight: float, store: Store) -> Part:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise DataError("no text" if value in (None, "") else f"expected text, found {type(value).__name__}")
    return Text(str(value), weight)


def _bytes(value: object, store: Store) -> bytes:
    return value if isinstance(value, bytes) else medium_bytes(store, value)


def _weighted(part: Part, weight: float) -> Part:
    return part if weight == 1.0 else replace(part, weight=weight)


_KINDS: dict[Kind, Callable[[object, object, float, Store], Part]] = {"image": _image, "audio": _audio, "text": _text}
