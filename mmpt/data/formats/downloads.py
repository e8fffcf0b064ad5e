"""Pictures that img2dataset downloaded (github.com/rom1504/img2dataset), found by their addresses.

Beside each piece of a download, a tar, a folder or the table itself, lies a Parquet with `url`, `key`, `status` and
`error_message` of each address. All addresses are kept by their hash, 24 bytes each.
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from mmpt.data.formats.pictures import SUFFIXES, Naming, find_picture
from mmpt.data.formats.rows_parquet import parquet_file
from mmpt.data.formats.tars import tar_members
from mmpt.data.parts import image_part
from mmpt.data.store import Store
from mmpt.document import Image
from mmpt.errors import ConfigError, DataError

NO_TABLE = "{}: no .parquet in it, which img2dataset puts beside each tar"
_HASH = np.dtype([("first", "<u8"), ("second", "<u8"), ("piece", "<u4"), ("row", "<u4")])


class _Piece(NamedTuple):
    """One Parquet of a download: `name` without its suffix, in what form its pictures are, "tar", "files" or a column."""

    name: str
    form: str


class Downloads:
    """The download in the folder `location`. Raises `DataError` where there is none."""

    def __init__(self, location: str) -> None:
        self._store = Store(location)
        files = self._store.files()
        tables = [name for name, size in files.items() if name.endswith(".parquet") and size]
        if not tables:
            raise DataError(NO_TABLE.format(location))
        self._pieces = [_piece(self._store, name, files) for name in tables]
        found = [_hashes(self._store, piece.name, number) for number, piece in enumerate(self._pieces)]
        self._hashes = np.concatenate(found)
        self._hashes = self._hashes[np.argsort(self._hashes["first"], kind="stable")]
        # Where the pictures of each tar lie is kept; of tables that hold them one at a time is.
        self._places = lru_cache(maxsize=None)(partial(_places, self._store))
        self._table = lru_cache(maxsize=1)(partial(_columns, self._store))
        self._about = lru_cache(maxsize=64)(partial(_columns, self._store))

    def read(self, url: str) -> bytes:
        """The bytes of the picture from `url`. Raises `DataError` with img2dataset's reason where it was not downloaded."""
        first, second = np.frombuffer(_digest(url), "<u8")
        start, end = (np.searchsorted(self._hashes["first"], first, side) for side in ("left", "right"))
        problem = "no such address in the download"
        for entry in self._hashes[start:end]:
            if entry["second"] == second:
                piece, row = self._pieces[entry["piece"]], int(entry["row"])
                (about,) = self._about(piece.name, ("key", "status", "error_message")).slice(row, 1).to_pylist()
                if about["status"] == "success":
                    return self._bytes(piece, about["key"], row)
                reason = about.get("error_message")
                problem = f"not downloaded: {about['status']}" + (f" ({reason})" if reason else "")
        raise DataError(problem)

    def _bytes(self, piece: _Piece, key: str, row: int) -> bytes:
        if piece.form == "tar":
            if key not in (places := self._places(piece.name)):
                raise DataError(f"{self._store.path(piece.name)}.tar: no picture {key}")
            return self._store.read_range(f"{piece.name}.tar", *places[key])
        if piece.form != "files":
            data = self._table(piece.name, (piece.form,))[piece.form][row].as_py()
            if not data:
                raise DataError(f"{self._store.path(piece.name)}.parquet, row {row}: no picture")
            return data
        for suffix in SUFFIXES:
            if self._store.exists(name := f"{piece.name}/{key}.{suffix}"):
                return self._store.read(name)
        raise DataError(f"{self._store.path(piece.name)}/{key}.*: no such file")


@lru_cache(maxsize=2)
def opened(location: str) -> Downloads:
    """The download in a folder, which stays open for the units of this process."""
    return Downloads(location)


def check_downloads(location: str) -> None:
    """Raises `ConfigError` where a folder is named in which there is no download; nothing of it is read yet."""
    try:
        if location and not any(name.endswith(".parquet") for name in Store(location).files()):
            raise DataError(NO_TABLE.format(location))
    except DataError as problem:
        raise ConfigError(str(problem)) from None


def finder(images: str, naming: Naming, downloads: str) -> Callable[[object, str], Image]:
    """What finds the picture of a reference and its alternative text: in a folder, or by its address in a download."""
    if not downloads:
        store = Store(images)
        return lambda reference, alt="": find_picture(store, reference, naming, alt)
    found = opened(downloads)

    def find(reference: object, alt: str = "") -> Image:
        if not isinstance(reference, str) or not reference:
            raise DataError(f"{reference!r} is no reference to a picture")
        return image_part(found.read(reference), alt)

    return find


def _digest(url: str) -> bytes:
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).digest()[:16]


def _piece(store: Store, name: str, files: dict[str, int]) -> _Piece:
    schema = parquet_file(store, name).schema_arrow
    if missing := [column for column in ("url", "key", "status") if column not in schema.names]:
        raise DataError(f"{store.path(name)}: no column {', '.join(missing)}, which img2dataset writes")
    stem = name.removesuffix(".parquet")
    binary = [field.name for field in schema if str(field.type) in ("binary", "large_binary")]
    return _Piece(stem, "tar" if f"{stem}.tar" in files else binary[0] if binary else "files")


def _hashes(store: Store, piece: str, number: int) -> np.ndarray:
    urls = parquet_file(store, f"{piece}.parquet").read(columns=["url"])["url"].to_pylist()
    found = np.zeros(len(urls), _HASH)
    digests = np.frombuffer(b"".join(_digest(url or "") for url in urls), "<u8").reshape(-1, 2)
    found["first"], found["second"] = digests[:, 0], digests[:, 1]
    found["piece"], found["row"] = number, np.arange(len(urls))
    return found


def _columns(store: Store, piece: str, columns: tuple[str, ...]) -> Any:
    """A table of those of the columns that are there."""
    file = parquet_file(store, f"{piece}.parquet")
    return file.read(columns=[name for name in columns if name in file.schema_arrow.names])


def _places(store: Store, piece: str) -> dict[str, tuple[int, int]]:
    """Key → (start, end) of its picture in a tar; a key with several pictures, or whose picture is damaged, is not there."""
    found: dict[str, list[tuple[int, int] | None]] = {}
    for name, place, _ in tar_members(store.read(f"{piece}.tar")):
        key, _, suffix = name.rpartition("/")[2].partition(".")
        if suffix.lower() in SUFFIXES:
            found.setdefault(key, []).append(place)
    return {key: places[0] for key, places in found.items() if len(places) == 1 and places[0]}
