"""CSV and TSV tables: cut between rows, which a look through the whole table finds, since a quoted field may hold ends of lines.

Where the table cannot be told apart into rows (a field above `MAX_FIELD`, a quote that is never closed), nothing after that place
is taken for a row: the rest of the file is left out and listed.
"""

import csv
import io
import re
from collections.abc import Iterator
from typing import Self

from mmpt.data.formats.row_range import RowRange, Shape
from mmpt.data.formats.rows_lines import HEAD, MAX_FILE, MAX_LINE
from mmpt.data.lost import Lost
from mmpt.data.store import Store
from mmpt.errors import DataError

MAX_FIELD = MAX_LINE
"""Characters of the longest field that is read."""
_ESCAPED = re.compile("[\ud800-\udfff]")
"""What bytes that are no UTF-8 are decoded to."""


def sample(store: Store, name: str, size: int) -> Shape:
    """About how large the rows are, from the beginning of the file: a line is taken for a row."""
    head = store.read_range(name, 0, min(size, HEAD))
    row = max(1.0, len(head) / max(1, head.count(b"\n")))
    return Shape(1 / row, row)


def cut(store: Store, name: str, size: int, rows: int, shape: Shape) -> Iterator[tuple[RowRange, float]]:
    """(bytes, lines before the first row, and columns; rows) of each piece."""
    if size > MAX_FILE:
        raise DataError(f"{store.path(name)}: {size} bytes in one table; convert it to .jsonl or .parquet")
    one_piece = size * shape.rows_per_byte <= rows  # then there is nothing to look for but the first line's end
    data = store.read_range(name, 0, min(size, HEAD)) if one_piece else store.read(name)
    columns: list[str] | None = None
    first, records, end = None, 0, (0, size)
    # Every record is looked at: whether an end of line ends a row depends on the quotes of all that came before.
    for record, start, end in _records(name, data, begins=True):
        if isinstance(record, str):  # said where it is read, and nothing comes after it
            first, end = first or start, (0, size)
            break
        if columns is None:
            columns = record or None
            if columns and one_piece and end[1] < size:
                yield _range(name, columns, end, (0, size)), max(1.0, size * shape.rows_per_byte)
                return
            continue
        first, records = first or start, records + 1
        if records == rows:
            yield _range(name, columns, first, end), float(records)
            first, records = None, 0
    if first is not None:
        yield _range(name, columns or [], first, end), float(max(1, records))


def read(store: Store, what: RowRange) -> Iterator[tuple[str, dict] | Lost]:
    """(where it lies, row) of each row, and a `Lost` for each that has more or fewer fields than the table, or is no UTF-8."""
    path, columns, before = store.path(what.file), what.columns or [], what.line or 0
    data = store.read_range(what.file, what.start, store.size(what.file) if what.end is None else what.end)
    for record, start, end in _records(what.file, data):
        if isinstance(record, str):
            yield Lost(f"{path}, from line {before + start[0] + 1} on", f"{record}: the rest of the file is left out")
            return
        where = f"{path}, line {before + end[0]}"
        if not record:
            continue
        if len(record) != len(columns):
            yield Lost(where, f"{len(record)} fields, {len(columns)} in the first line")
        elif any(map(_ESCAPED.search, record)):
            yield Lost(where, "not UTF-8")
        else:
            yield where, dict(zip(columns, record, strict=True))


def _range(name: str, columns: list[str], first: tuple[int, int], end: tuple[int, int]) -> RowRange:
    return RowRange(name, start=first[1], end=end[1], line=first[0], columns=columns)


def _records(name: str, data: bytes, begins: bool = False) -> Iterator[tuple[list[str] | str, tuple[int, int], tuple[int, int]]]:
    """(fields, start, end) of each record, a place being (lines, bytes) before it; in place of fields, why there are no more."""
    csv.field_size_limit(MAX_FIELD)  # csv knows only one limit for all readers of a process
    lines = _Lines(data, begins)
    tabs = name.endswith(".tsv")
    reader = csv.reader(lines, delimiter="\t" if tabs else ",", quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL)
    while True:
        start = lines.place
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as problem:
            yield f"no table from here on ({problem})", start, lines.place
            return
        if lines.ended:  # csv asked for more, so a quote was open, and gives what it has
            yield "a quote that is never closed", start, lines.place
            return
        yield record, start, lines.place


class _Lines:
    """The lines of a text for csv, which takes only as many as a record needs, and how far it came."""

    def __init__(self, data: bytes, begins: bool) -> None:
        self._text = io.TextIOWrapper(io.BytesIO(data), "utf-8", "surrogateescape", newline="")
        self._begins = begins
        self.place = (0, 0)
        self.ended = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._text.readline()
        if not line:
            self.ended = True
            raise StopIteration
        count, at = self.place
        self.place = (count + 1, at + (len(line) if line.isascii() else len(line.encode("utf-8", "surrogateescape"))))
        return line.removeprefix("\ufeff") if self._begins and not count else line
