"""JSON lines, also compressed: ranges of bytes of the text; a line belongs to the range in which it begins."""

import gzip
import io
import json
import zlib
from collections.abc import Iterator

from mmpt.data.extra import need
from mmpt.data.formats.row_range import RowRange, Shape
from mmpt.data.lost import Lost
from mmpt.data.store import Store
from mmpt.errors import DataError

MAX_LINE = 64 << 20
"""Bytes of the longest line that is read."""
MAX_FILE = 4 << 30
"""Bytes of the largest file that is read in one piece."""
HEAD = 256 << 10
"""Bytes of a file from which its rows are estimated."""
_MOST = 64
"""Pieces at most of a compressed file: each is read from the file's beginning on."""


def sample(store: Store, name: str, size: int) -> Shape:
    """About how large the rows are, from the beginning of the file."""
    head = store.read_range(name, 0, min(size, HEAD))
    text = b"".join(_some(name, head)) if _compressed(name) else head
    row = max(1.0, len(text) / max(1, text.count(b"\n") + (not text.endswith(b"\n") and size <= HEAD)))
    return Shape(max(1.0, len(text) / row) / len(head), row)


def cut(store: Store, name: str, size: int, rows: int, shape: Shape) -> Iterator[tuple[RowRange, float]]:
    """(bytes of the text, rows) of each piece; of a compressed file the last has no end, since its size is not known."""
    total, row = size * shape.rows_per_byte, shape.row_bytes
    if _compressed(name) and size > MAX_FILE:
        raise DataError(f"{store.path(name)}: {size} bytes in one piece; cut it, or convert it to .parquet")
    if not _compressed(name):
        step = max(1, round(rows * row))
        for start in range(0, size, step):
            end = min(start + step, size)
            yield RowRange(name, start=start, end=end), (end - start) / row
        return
    pieces = min(_MOST, max(1, round(total / rows)))
    step = max(1, round(total * row / pieces))
    for number in range(pieces):
        end = None if number == pieces - 1 else (number + 1) * step
        yield RowRange(name, start=number * step, end=end), total / pieces


def read(store: Store, what: RowRange) -> Iterator[tuple[str, dict] | Lost]:
    """(where it lies, row) of each line, and a `Lost` for each that is no JSON object."""
    path = store.path(what.file)
    if _compressed(what.file):
        yield from parsed(path, _unzipped(path, store.read(what.file), what.start, what.end))
    else:
        end = store.size(what.file) if what.end is None else what.end
        yield from parsed(path, _lines(store, what.file, what.start, end))


def parsed(path: str, lines: Iterator[tuple[int, bytes] | Lost]) -> Iterator[tuple[str, dict] | Lost]:
    """The rows of (offset, line) pairs."""
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
                yield where, checked_object(json.loads(line))
            except (ValueError, RecursionError) as problem:
                yield Lost(where, f"not a JSON object ({problem})")


def checked_object(value: object) -> dict:
    """`value` itself. Raises `ValueError` where it is no JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found {type(value).__name__}")
    return value


def _lines(store: Store, name: str, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(offset, line) of each line that begins in `start` … `end`, wherever it ends."""
    # From one byte before: only so is it seen whether a line begins at `start` itself.
    data = store.read_range(name, max(0, start - 1), end)
    at = 0
    if start:  # the line in which the range begins belongs to the range before
        at = data.find(b"\n") + 1
        if not at:
            return
    rest = bytearray()
    reach = end
    while not data.endswith(b"\n") and len(rest) < MAX_LINE:  # the last line may end far behind the range
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


def _compressed(name: str) -> bool:
    return name.endswith((".gz", ".zst"))


def _unzipped(path: str, data: bytes, start: int, end: int | None) -> Iterator[tuple[int, bytes] | Lost]:
    """(offset in the text, line) of each line that begins in the range; of one that is too long only the beginning."""
    at = 0
    try:
        with _decompressed(path, data) as file:
            while (end is None or at < end) and (line := file.readline(MAX_LINE + 1)):
                if at >= start:
                    yield at, line
                at += len(line)
                while len(line) > MAX_LINE and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE + 1)
                    at += len(line)
    except (OSError, EOFError, zlib.error) as problem:
        if end is None:  # else the last range says it
            yield Lost(f"{path}, from byte {at} on", f"damaged compression ({problem})")


def _some(path: str, data: bytes) -> Iterator[bytes]:
    """The text of the beginning of a compressed file, as much as there is, at most `MAX_LINE` bytes."""
    try:
        with _decompressed(path, data) as file:
            for _ in range(MAX_LINE >> 14):
                if not (piece := file.read1(1 << 14)):
                    return
                yield piece
    except (OSError, EOFError, zlib.error):
        return


def _decompressed(path: str, data: bytes) -> io.BufferedIOBase:
    if path.endswith(".gz"):
        return gzip.GzipFile(fileobj=io.BytesIO(data))
    arrow = need("pyarrow")
    return io.BufferedReader(arrow.CompressedInputStream(arrow.BufferReader(data), "zstd"), 1 << 16)
