"""Folders of pictures or recordings with a table `metadata`: `imagefolder` and `audiofolder` of the Hugging Face hub.

sources: [{kind: hub_folder, folder: OWNER_NAME/, parts: [{image: image}, {text: text}]}]
"""

import mimetypes
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pydantic

from mmpt.data.formats.hub_files import HubFiles, Wanted
from mmpt.data.formats.row_parts import RowPart, meta_of, row_document, row_documents, row_parts
from mmpt.data.formats.row_range import RowRange
from mmpt.data.formats.rows import MEDIA_BYTES, every_row, named_rows, row_units
from mmpt.data.lost import Documents, Lost, kept
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store, files_of
from mmpt.data.unit import Unit, grouped
from mmpt.errors import ConfigError

TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")


class Piece(NamedTuple):
    """Rows of a table; or files without one; or, with neither, what no row of any table names."""

    table: str = ""
    rows: RowRange | None = None
    files: list[str] | None = None


class HubFolder(HubFiles, NamedSource):
    """Folders of media with metadata.csv, .jsonl or .parquet, as `datasets` loads `imagefolder` and `audiofolder`
    (github.com/huggingface/datasets).

    The column `file_name` is called `image` or `audio` here as there, `file_names` `images` or `audios`, `NAME_file_name` NAME.
    Without a table each file is a row of itself, and the folder that it lies in is its `label`.
    """

    folder: str
    """Folder or `hf://` address; what `huggingface_hub.snapshot_download` leaves, links and all."""
    parts: tuple[RowPart, ...] = pydantic.Field(min_length=1)
    """What each document consists of, in order: {image: image}, {text: text}; {audio: audio, transcript: transcription}."""
    meta: tuple[str, ...] = ()
    """Columns that go along as meta."""
    language: str = ""
    """Code of the language of the documents, for their meta."""
    license: str = ""
    """License of the documents, for their meta."""

    def units(self) -> list[Unit[Piece]]:
        """Ranges of the tables' rows, and one for what none of them names; runs of files where there is no table. Raises
        `ConfigError` where there is nothing to read."""
        wanted = self.wanted(self.folder)
        files = self._kept_files(wanted)
        if tables := _tables(files):
            found = [
                Unit(Piece(name, unit.what), unit.size) for name in tables for unit in row_units(self._at(name), MEDIA_BYTES)
            ]
            return [*found, Unit(Piece(), 1)]
        media = [(name, size) for name, size in files.items() if _is_medium(name)]
        if not media:
            raise ConfigError(f"{self.folder}: no {', '.join(TABLES)}, picture or recording in it {wanted.said}")
        return [Unit(Piece(files=unit.what), unit.size) for unit in grouped(media)] + [Unit(Piece(), 1)]

    def read(self, unit: Unit[Piece]) -> Documents:
        """One document for each row, or each file where there is no table. A row whose file is missing is listed, as is a file
        that no row names."""
        piece = Piece(*unit.what)
        store, source = Store(self.folder), self.source_name(self.folder)

        def document(where: str, document_id: str, row: dict) -> Documents:
            parts = yield from kept(row_parts(row, self.parts, store, where, document_id))
            meta = meta_of(row, self.meta, language=self.language, license=self.license)
            yield row_document(document_id, source, parts, meta)

        if piece.files is not None:
            for name in piece.files:
                label = PurePosixPath(name).parent.name
                row: dict[str, Any] = {"image": {"path": name}, "audio": {"path": name}, "label": label, "file_name": name}
                yield from row_documents([(store.path(name), f"{source}/{name}", row)], document)
            return
        if piece.rows is None:
            yield from self._left(store, source)
            return
        beside = PurePosixPath(piece.table).parent
        rows = named_rows(f"{source}/{beside}" if str(beside) != "." else source, self._at(piece.table), piece.rows)
        yield from row_documents(rows, lambda where, document_id, row: document(where, document_id, _named(row, beside)))

    def _left(self, store: Store, source: str) -> Documents:
        """Media that no row names, and archives, which are not opened."""
        files = self._kept_files(self.wanted(self.folder))
        tables, named = _tables(files), set()
        for table in tables:
            for one in every_row(self._at(table)):
                if not isinstance(one, Lost):
                    named |= set(_references(_named(one[1], PurePosixPath(table).parent)))
        for name in files:
            if name.lower().endswith(ARCHIVES):
                yield Lost(store.path(name), "an archive is not opened: unpack it", f"{source}/{name}")
            elif tables and _is_medium(name) and name not in named:
                yield Lost(store.path(name), "no row of a table names it", f"{source}/{name}", rule="not in a table")

    def _kept_files(self, wanted: Wanted) -> dict[str, int]:
        return {name: size for name, size in files_of(self.folder).items() if wanted.has(name)}

    def _at(self, name: str) -> str:
        return f"{self.folder.rstrip('/')}/{name}"


def _tables(files: dict[str, int]) -> list[str]:
    return [name for name, size in files.items() if PurePosixPath(name).name in TABLES and size]


def _is_medium(name: str) -> bool:
    return (mimetypes.guess_type(name)[0] or "").startswith(("image/", "audio/"))


def _named(row: dict, beside: PurePosixPath) -> dict:
    """A row with the columns that its columns of file names stand for, the names being relative to the folder."""
    found = dict(row)
    for key, value in row.items():
        for end in ("file_name", "file_names"):
            if key == end or key.endswith(f"_{end}"):
                many = end.endswith("s")
                columns = [key.removesuffix(f"_{end}")] if key != end else ["images", "audios"] if many else ["image", "audio"]
                for column in columns:
                    found.setdefault(
                        column, [_at(one, beside) for one in value] if isinstance(value, list) else _at(value, beside)
                    )
    return found


def _at(name: object, beside: PurePosixPath) -> dict | None:
    """A file beside a table. A name that leads out of the folder, or elsewhere, is refused where it is read."""
    if not isinstance(name, str) or not name:
        return None
    return {"path": name if "://" in name else str(beside / name)}


def _references(row: dict) -> list[str]:
    values = [one for value in row.values() for one in (value if isinstance(value, list) else [value])]
    return [value["path"] for value in values if isinstance(value, dict) and isinstance(value.get("path"), str)]
