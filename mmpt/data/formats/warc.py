"""The records of a WARC file (ISO 28500): each whole or listed, and reading goes on behind one that is damaged."""

import io
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from mmpt.data.extra import need
from mmpt.data.formats.ranges import Ranges
from mmpt.data.lost import Lost
from mmpt.data.store import Store
from mmpt.errors import DataError

MAX_BYTES = 64 << 20
"""Longest content of a record that is read, packed and unpacked."""
_PAGES = ("text/html", "application/xhtml+xml")
_BLOCK = 1 << 20


class Record(NamedTuple):
    """What was sent as `kind` from the address `url`: the record begins at byte `start` of its file. `data` is None where it was
    not asked for."""

    start: int
    url: str
    kind: str
    charset: str
    status: int
    language: str
    data: bytes | None

    @property
    def is_page(self) -> bool:
        return self.kind in _PAGES or self.kind == "text/plain"


def read_records(store: Store, name: str, contents: bool = True) -> Iterator[Record | Lost]:
    """The responses, resources and conversions of a WARC in order, and for each damaged stretch what was lost.

    `contents`: read what pages hold, against the record's digest where it has one; else only where things are.
    """
    start, size = 0, store.size(name)
    while start < size:
        last = start
        try:
            for record in _iterator(store, name, start):
                last = start + record.stream_pos
                try:
                    yield _record(record, last, contents)
                except DataError as problem:
                    if contents:
                        yield Lost(f"{store.path(name)}, byte {last}: {_url(record)}", str(problem))
            return
        except OSError as problem:
            # The record at `last` was sound or is the broken one: the next that begins behind it.
            start = _next_start(store, name, last + 1, size)
            if contents:
                yield Lost(f"{store.path(name)}, bytes {last} to {start}", f"damaged ({problem})")


def picture_at(store: Store, name: str, start: int) -> bytes:
    """What the record at byte `start` holds. Raises `DataError`."""
    try:
        for record in _iterator(store, name, start):
            return _content(record)
    except OSError as problem:
        raise DataError(f"damaged ({problem})") from None
    raise DataError("no record")


def _iterator(store: Store, name: str, start: int) -> Any:
    warc = need("fastwarc.warc", "documents")
    stream = io.BufferedReader(Ranges(store, name, start), _BLOCK)
    kinds = warc.WarcRecordType.response | warc.WarcRecordType.resource | warc.WarcRecordType.conversion
    return warc.ArchiveIterator(stream, record_types=kinds, parse_http=False, fsspec_args=False)


def _url(record: Any) -> str:
    return (record.headers.get("WARC-Target-URI") or "").strip("<> ")


def _record(record: Any, start: int, contents: bool) -> Record:
    size, digest = record.content_length, record.headers.get("WARC-Block-Digest")
    if str(size) != (record.headers.get("Content-Length") or "").strip():
        raise DataError("its header is cut short, or says no length")
    if size > MAX_BYTES:
        raise DataError(f"of {size} bytes, at most {MAX_BYTES} are read")
    if contents:
        record.freeze()
        if record.content_length != size:
            raise DataError(f"cut short: {record.content_length} of {size} bytes")
        if digest and not record.verify_block_digest():
            raise DataError("its content has another digest than it says")
    record.parse_http(auto_decode="all")
    answer = record.http_headers
    kind = (record.http_content_type if answer else record.headers.get("Content-Type") or "") or ""
    kind = kind.partition(";")[0].strip().lower()
    status = int(answer.status_code or 0) if answer else 200
    language = (record.headers.get("WARC-Identified-Content-Language") or "").partition(",")[0]
    found = Record(start, _url(record), kind, record.http_charset or "", status, language, None)
    return found._replace(data=_content(record)) if contents and found.is_page and status == 200 else found


def _content(record: Any) -> bytes:
    if not record.is_http_parsed:
        record.parse_http(auto_decode="all")
    data = record.reader.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise DataError(f"unpacked of more than {MAX_BYTES} bytes")
    return data


def _next_start(store: Store, name: str, at: int, size: int) -> int:
    """Where the next record begins at or behind byte `at`; `size` where none does."""
    packed = store.read_range(name, 0, 2) == b"\x1f\x8b"
    mark = b"\x1f\x8b\x08" if packed else b"\nWARC/1."
    while at < size:
        block = store.read_range(name, at, at + _BLOCK + 4096)
        place = block.find(mark)
        while 0 <= place < _BLOCK:
            if not packed:
                return at + place + 1
            if _begins_record(block[place : place + 4096]):
                return at + place
            place = block.find(mark, place + 1)
        at += _BLOCK
    return size


def _begins_record(packed: bytes) -> bool:
    try:
        return zlib.decompressobj(31).decompress(packed, 16).startswith(b"WARC/1.")
    except zlib.error:
        return False
