"""Rows of JSON lines, JSON arrays, Parquet, CSV and TSV files: cut into units, each row whole or listed with its reason."""

import sys
from collections.abc import Iterator
from typing import Protocol

from mmpt.data.formats import rows_csv, rows_json, rows_lines, rows_parquet
from mmpt.data.formats.hub_files import Wanted
from mmpt.data.formats.row_range import RowRange, Shape
from mmpt.data.lost import Lost
from mmpt.data.store import Store
from mmpt.data.unit import UNIT_BYTES, Unit
from mmpt.errors import ConfigError, DataError


class _Format(Protocol):
    """What a module of a format of rows has."""

    def sample(self, store: Store, name: str, size: int) -> Shape:
        """Estimated from the file's beginning."""
        ...

    def cut(self, store: Store, name: str, size: int, rows: int, shape: Shape) -> Iterator[tuple[RowRange, float]]:
        """Pieces of about that many rows, and how many are in each."""
        ...

    def read(self, store: Store, what: RowRange) -> Iterator[tuple[str, dict] | Lost]:
        """(where it lies, row) of each row of a piece, and a `Lost` for each that is none."""
        ...


_FORMATS: dict[str, _Format] = {
    ".jsonl": rows_lines,
    ".jsonl.gz": rows_lines,
    ".jsonl.zst": rows_lines,
    ".json": rows_json,
    ".parquet": rows_parquet,
    ".csv": rows_csv,
    ".tsv": rows_csv,
}
"""Suffix → the module that reads such files."""
SUFFIXES = tuple(_FORMATS)
MEDIA_BYTES = 128 << 10
"""About how many bytes of pictures or sound a row brings, for the sources whose rows name such files."""
PIECES = 64
"""Units at least of what is worth it, so that many processes have something to do, and little is lost when one is killed."""
LEAST_BYTES = 1 << 20


def row_units(location: str, media: int = 0, wanted: Wanted | None = None) -> list[Unit[RowRange]]:
    """Units of the file at `location`, or of every file with rows in that folder, in order; with `wanted`, of those of its files
    that are.

    A unit brings at most about `UNIT_BYTES`, the pictures and the sound that its rows name counted with `media` bytes a row, so
    a small table of many recordings is many units.
    Raises `ConfigError` where there is no such file, or nothing in it.
    """
    try:
        store, names = open_rows(location)
        if wanted and not location.endswith(SUFFIXES):
            names = {name: size for name, size in names.items() if wanted.has(name)}
        names = {name: size or _size(store, name) for name, size in names.items()}
        if not names:
            which = f" {wanted.said}" if wanted else ""
            raise ConfigError(f"{location}: no file with rows{which} ({', '.join(SUFFIXES)})")
        names = {name: size for name, size in names.items() if size}
        shapes = _shapes(store, names)
        # In about `PIECES` pieces where that is worth it, but never above the bytes of a unit.
        weight = sum(size * shapes[name].rows_per_byte * (shapes[name].row_bytes + media) for name, size in names.items())
        limit = min(UNIT_BYTES, max(LEAST_BYTES, weight / PIECES))
        units: list[Unit[RowRange]] = []
        for name, size in names.items():
            each = shapes[name].row_bytes + media
            for what, rows in _suffix_format(name)[1].cut(store, name, size, max(1, int(limit / each)), shapes[name]):
                units.append(Unit(what, max(1, int(rows * each))))
    except DataError as problem:
        raise ConfigError(str(problem)) from None
    if not units:
        raise ConfigError(f"{location}: no rows in it")
    return units


def every_row(location: str) -> Iterator[tuple[str, dict] | Lost]:
    """What `read_rows` gives for all of a file or folder, in one go. Raises `DataError` where there is no such file."""
    store, names = open_rows(location)
    names = {name: size for name, size in names.items() if size}
    for name, shape in _shapes(store, names).items():
        for what, _ in _suffix_format(name)[1].cut(store, name, names[name], sys.maxsize, shape):
            yield from read_rows(location, what)


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


def read_rows(location: str, what: RowRange) -> Iterator[tuple[str, dict] | Lost]:
    """(where it lies, row) for each row of a unit, and a `Lost` for each that is none."""
    return _suffix_format(what.file)[1].read(Store(folder_of(location)), what)


def named_rows(name: str, location: str, what: RowRange) -> Iterator[tuple[str, str, dict] | Lost]:
    """(where it lies, id of its document, row) of each row of a unit of the source `name`; a `Lost` for each that is none."""
    for one in read_rows(location, what):
        yield one if isinstance(one, Lost) else (one[0], row_id(name, location, one[0]), one[1])


def _shapes(store: Store, names: dict[str, int]) -> dict[str, Shape]:
    """The shape of each file: of those of one suffix, that of the first, since there may be thousands on a remote."""
    found: dict[str, Shape] = {}
    for name, size in names.items():
        suffix, form = _suffix_format(name)
        if suffix not in found:
            found[suffix] = form.sample(store, name, size)
    return {name: found[_suffix_format(name)[0]] for name in names}


def _suffix_format(name: str) -> tuple[str, _Format]:
    return next((suffix, module) for suffix, module in _FORMATS.items() if name.endswith(suffix))


def _size(store: Store, name: str) -> int:
    """Of a file of which a remote does not say how large it is, or that is empty."""
    return 0 if store.is_local else store.size(name) or len(store.read(name))
