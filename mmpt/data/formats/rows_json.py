"""JSON arrays of objects, cut between their items; files named .json that hold JSON lines are read as those."""

import json
import re
from collections.abc import Iterator

from mmpt.data.formats import rows_lines
from mmpt.data.formats.row_range import RowRange, Shape
from mmpt.data.formats.rows_lines import HEAD, MAX_FILE, checked_object
from mmpt.data.lost import Lost
from mmpt.data.store import Store
from mmpt.errors import DataError

_BEFORE = re.compile(r"\s*[\[,]?\s*")
_SPACE = re.compile(r"\s*")


def sample(store: Store, name: str, size: int) -> Shape:
    """About how large the rows are, from the beginning of the file."""
    head = store.read_range(name, 0, min(size, HEAD))
    if not _decoded(head).lstrip().startswith("["):
        return rows_lines.sample(store, name, size)
    count, end = 0, size
    try:
        for count, (_, end) in enumerate(_items(_decoded(head)), start=1):  # noqa: B007
            pass
    except (ValueError, RecursionError):
        pass  # the head ends within an item
    row = end / count if count else float(size)
    return Shape(1 / row, row)


def cut(store: Store, name: str, size: int, rows: int, shape: Shape) -> Iterator[tuple[RowRange, float]]:
    """(bytes and number of the first item, rows) of each piece; without an `item` it is a range of lines."""
    head = store.read_range(name, 0, min(size, HEAD))
    array = _decoded(head).lstrip().startswith("[")
    if not array and not _is_one_value(store, name, head):
        yield from rows_lines.cut(store, name, size, rows, shape)
        return
    if size > MAX_FILE:
        raise DataError(f"{store.path(name)}: {size} bytes in one piece of JSON; convert it to .jsonl or .parquet")
    start, first, number = 0, 0, 0
    # In UTF-16, places in the text are no places in the file.
    if array and size * shape.rows_per_byte > rows and _is_utf8(head):
        data = store.read(name)
        text, done = _decoded(data), 0
        at = len(data) - len(_encoded(text))  # after a byte order mark
        try:
            # Places in the text are counted on in bytes piece by piece, since characters are of one to four bytes.
            for number, (_, end) in enumerate(_items(text), start=1):
                if number - first == rows:
                    at += len(_encoded(text[done:end]))
                    yield RowRange(name, start=start, end=at, item=first), float(rows)
                    start, first, done = at, number, end
        except (ValueError, RecursionError):
            pass  # said where it is read
    left = max(1.0, number - first if number else size * shape.rows_per_byte)
    yield RowRange(name, start=start, end=None, item=first), left


def read(store: Store, what: RowRange) -> Iterator[tuple[str, dict] | Lost]:
    """(where it lies, row) of each item, and a `Lost` for each that is no object, or for all from where the JSON is damaged."""
    if what.item is None:
        yield from rows_lines.read(store, what)
        return
    path, number, reach = store.path(what.file), what.item, 0
    end = store.size(what.file) if what.end is None else what.end
    text = _decoded(store.read_range(what.file, what.start, end))
    try:
        for value, reach in _items(text):  # noqa: B007
            try:
                yield f"{path}, item {number}", checked_object(value)
            except ValueError as problem:
                yield Lost(f"{path}, item {number}", str(problem))
            number += 1
        rest = text[reach:].strip().removeprefix("[").strip()
        if what.end is None and rest != ("" if text.lstrip().startswith("{") else "]"):
            raise ValueError(f"its end is {rest[:20]!r}")
    except (ValueError, RecursionError) as problem:
        yield Lost(f"{path}, from item {number} on", f"damaged JSON ({problem}): the rest of the file is left out")


def _items(text: str) -> Iterator[tuple[object, int]]:
    """(value, where it ends) of each item of an array, or of a piece of one. Raises `ValueError` where it is damaged."""
    decode = json.JSONDecoder().raw_decode
    at = _after(_BEFORE, text, 0)
    while at < len(text) and text[at] != "]":
        value, end = decode(text, at)
        yield value, end
        at = _after(_SPACE, text, end)
        if text[at : at + 1] not in (",", ""):
            return
        at = _after(_BEFORE, text, at)


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Where what the pattern matches from `at` on ends; both patterns match nothing, too."""
    found = pattern.match(text, at)
    return found.end() if found else at


def _is_one_value(store: Store, name: str, head: bytes) -> bool:
    """Whether the file is one object written over several lines."""
    line, newline, _ = head.partition(b"\n")
    try:
        json.loads(line)
        return False
    except (ValueError, RecursionError):
        pass
    try:
        json.loads(store.read(name) if newline else b"")
        return True
    except (ValueError, RecursionError):
        return False


def _decoded(data: bytes) -> str:
    """As JSON's readers decode; bytes that are no UTF-8 become lone surrogates, which cost the row they are in."""
    return data.decode("utf-8-sig", "surrogateescape") if _is_utf8(data) else data.decode(_encoding(data), "replace")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _is_utf8(data: bytes) -> bool:
    return _encoding(data) in ("utf-8", "utf-8-sig")


def _encoding(data: bytes) -> str:
    return json.detect_encoding(data)  # pyright: ignore[reportAttributeAccessIssue] (there since Python 3.6, not in the stubs)
