"""Rows of JSON lines, JSON arrays, Parquet, CSV and TSV files: cut into units, each row whole or listed with its reason."""

import csv
import datetime
import decimal
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator

from mmpt.data.extra import need
from mmpt.data.lost import Lost
from mmpt.data.sources.base import UNIT_BYTES, Unit
from mmpt.data.store import Store
from mmpt.errors import ConfigError, DataError

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".parquet", ".csv", ".tsv")
MAX_LINE = 64 << 20
"""Bytes of the longest line that is read."""
MAX_FILE = 4 << 30
"""Bytes of the largest file that is read in one piece."""
_ESCAPED = re.compile("[\ud800-\udfff]")
"""What bytes that are no UTF-8 are decoded to."""


def row_units(location: str, files: str | None = None) -> list[Unit]:
    """Units of the file at `location`, or of every file with rows in that folder (only `files`, if given), in order.

    JSON lines are cut into ranges of bytes and Parquet files into row groups; other files stay whole. `what` is
    {"file", "start", "end"}. Raises `ConfigError` where there is no such file.
    """
    try:
        store, names = open_rows(location)
        if files is not None:
            names = {name: size for name, size in names.items() if name == files}
        found = [unit for name, size in names.items() for unit in _units(store, name, size)]
    except DataError as problem:
        raise ConfigError(str(problem)) from None
    if not found:
        raise ConfigError(f"{location}: no file with rows ({', '.join(SUFFIXES)})")
    return found


def folder_of(location: str) -> str:
    """The folder of a file with rows or a .txt file; `location` itself where it is a folder."""
    return (location.rpartition("/")[0] or ".") if location.endswith((*SUFFIXES, ".txt")) else location


def open_rows(location: str) -> tuple[Store, dict[str, int]]:
    """(the folder, name → bytes of each file with rows) of a file or folder."""
    store = Store(folder_of(location))
    if location.endswith(SUFFIXES):
        name = location.rpartition("/")[2]
        return store, {name: store.size(name)}
    return store, {name: size for name, size in store.files().items() if name.endswith(SUFFIXES)}


def row_id(name: str, location: str, where: str) -> str:
    """The id of the document that a row becomes: `name` of the source, then the row's place below `location`."""
    return f"{name}/{where.removeprefix(Store(folder_of(location)).path(''))}"


def read_rows(location: str, what: dict) -> Iterator[tuple[str, dict] | Lost]:
    """(where it lies, row) for each row of a unit, and a `Lost` for each that is none."""
    store = Store(folder_of(location))
    name, start, end = what["file"], what["start"], what["end"]
    path = store.path(name)
    if name.endswith(".jsonl"):
        yield from _parsed(path, _lines(store, name, start, end))
    elif name.endswith((".jsonl.gz", ".jsonl.zst")):
        yield from _parsed(path, _unzipped(path, store.read(name)))
    elif name.endswith(".json"):
        yield from _array(path, store.read(name))
    elif name.endswith(".parquet"):
        try:
            table = _parquet(store, name).read_row_group(start).to_pylist()
        except (OSError, ValueError) as problem:
            yield Lost(f"{path}, row group {start}", f"damaged ({problem})")
            return
        for number, row in enumerate(table):
            yield f"{path}, row group {start}, row {number}", {column: _plain(value) for column, value in row.items()}
    else:
        yield from _table(path, store.read(name), "\t" if name.endswith(".tsv") else ",")


def _units(store: Store, name: str, size: int) -> list[Unit]:
    if name.endswith(".jsonl"):
        edges = [*range(0, size, UNIT_BYTES), size]
        return [Unit({"file": name, "start": a, "end": b}, b - a) for a, b in zip(edges, edges[1:], strict=False) if b > a]
    if name.endswith(".parquet"):
        groups = _parquet(store, name).metadata
        return [
            Unit({"file": name, "start": i, "end": i + 1}, groups.row_group(i).total_byte_size)
            for i in range(groups.num_row_groups)
        ]
    if size > MAX_FILE:
        raise ConfigError(f"{store.path(name)}: {size} bytes in one piece; convert it to .jsonl or .parquet")
    return [Unit({"file": name, "start": 0, "end": size}, size)]


def _parquet(store: Store, name: str):
    parquet = need("pyarrow.parquet")
    try:
        return parquet.ParquetFile(io.BufferedReader(_Ranges(store, name), 1 << 20))
    except (OSError, ValueError) as problem:
        raise DataError(f"{store.path(name)}: no Parquet file ({problem})") from None


class _Ranges(io.RawIOBase):
    """A file of a store of which only the ranges that are asked for are read."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name, self._size, self._at = store, name, store.size(name), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer) -> int:
        data = self._store.read_range(self._name, self._at, min(self._at + len(buffer), self._size))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _plain(value: object) -> object:
    """A value of a Parquet column as JSON can hold it: dates and decimals as text, NaN as null."""
    if isinstance(value, datetime.date | datetime.time | decimal.Decimal):
        return str(value)
    return None if isinstance(value, float) and value != value else value


def _lines(store: Store, name: str, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(offset, line) of each line that begins in `start` … `end`, wherever it ends."""
    data = store.read_range(name, max(0, start - 1), end)
    at = 0
    if start:  # the line in which the range begins belongs to the range before
        at = data.find(b"\n") + 1
        if not at:
            return
    rest = bytearray()
    reach = end
    while not data.endswith(b"\n") and len(rest) < MAX_LINE:
        piece = store.read_range(name, reach, reach + (1 << 20))
        reach += len(piece)
        cut = piece.find(b"\n")
        rest += piece if cut < 0 else piece[: cut + 1]
        if cut >= 0 or not piece:
            break
    base = max(0, start - 1)
    for line in io.BytesIO(data[at:] + bytes(rest)):
        yield base + at, line
        at += len(line)


def _unzipped(path: str, data: bytes) -> Iterator[tuple[int, bytes] | Lost]:
    """(offset in the text, line) of each line; of one that is too long only the beginning."""
    at = 0
    try:
        with _decompressed(path, data) as file:
            while line := file.readline(MAX_LINE + 1):
                yield at, line
                at += len(line)
                while len(line) > MAX_LINE and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE + 1)
                    at += len(line)
    except (OSError, EOFError, zlib.error) as problem:
        yield Lost(f"{path}, from byte {at} on", f"damaged compression ({problem})")


def _decompressed(path: str, data: bytes) -> io.BufferedIOBase:
    if path.endswith(".gz"):
        return gzip.GzipFile(fileobj=io.BytesIO(data))
    arrow = need("pyarrow")
    return io.BufferedReader(arrow.CompressedInputStream(arrow.BufferReader(data), "zstd"), 1 << 16)


def _parsed(path: str, lines: Iterator[tuple[int, bytes] | Lost]) -> Iterator[tuple[str, dict] | Lost]:
    for found in lines:
        if isinstance(found, Lost):
            yield found
            continue
        offset, line = found
        where = f"{path}, byte {offset}"
        if len(line) > MAX_LINE:
            yield Lost(where, f"a line of more than {MAX_LINE} bytes")
        elif line.strip():
            try:
                yield where, _object(json.loads(line))
            except (ValueError, RecursionError) as problem:
                yield Lost(where, f"not a JSON object ({problem})")


def _array(path: str, data: bytes) -> Iterator[tuple[str, dict] | Lost]:
    """A JSON array of objects, or, as some files named .json are, JSON lines."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        offsets, at = [], 0
        for line in io.BytesIO(data):
            offsets.append((at, line))
            at += len(line)
        yield from _parsed(path, iter(offsets))
        return
    for number, value in enumerate(values if isinstance(values, list) else [values]):
        try:
            yield f"{path}, item {number}", _object(value)
        except ValueError as problem:
            yield Lost(f"{path}, item {number}", str(problem))


def _table(path: str, data: bytes, delimiter: str) -> Iterator[tuple[str, dict] | Lost]:
    text = io.StringIO(data.decode("utf-8-sig", errors="surrogateescape"), newline="")
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    reader = csv.DictReader(text, delimiter=delimiter, quoting=quoting)
    while True:
        where = f"{path}, after line {reader.line_num}"
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as problem:
            yield Lost(where, str(problem))
            continue
        if None in row or None in row.values():
            yield Lost(where, f"more or fewer fields than the {len(reader.fieldnames or [])} of the first line")
        elif any(_ESCAPED.search(value) for value in row.values()):
            yield Lost(where, "not UTF-8")
        else:
            yield f"{path}, line {reader.line_num}", row


def _object(value: object) -> dict:
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found {type(value).__name__}")
    return value
