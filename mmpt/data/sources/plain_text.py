"""Documents of plain text from JSON lines, Parquet, CSV or TSV files, one for each row, or from .txt files.

sources: [{kind: plain_text, path: corpus/, column: text, language: en}]
"""

from collections.abc import Iterator, Sequence

from mmpt.data.formats.row_range import RowRange
from mmpt.data.formats.rows import SUFFIXES, folder_of, open_rows, read_rows, row_id, row_units
from mmpt.data.lost import Documents, Lost
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store
from mmpt.data.unit import Unit, grouped
from mmpt.document import Document, Text
from mmpt.errors import ConfigError, DataError

MAX_BYTES = 256 << 20


class PlainText(NamedSource):
    """Plain text of rows or .txt files, one document for each: the form of most text corpora; own."""

    path: str
    """A file, or a folder of which every file is read."""
    column: str = "text"
    """Column that holds the text."""
    meta: tuple[str, ...] = ()
    """Columns that go along as meta."""
    language: str = ""
    """Code of the language of the documents, for their meta."""
    license: str = ""
    """License of the documents, for their meta."""

    def units(self) -> Sequence[Unit[RowRange | list[str]]]:
        """Ranges of rows, then runs of .txt files. Raises `ConfigError` where there is neither."""
        try:
            if self.path.endswith(".txt"):
                name = self.path.rpartition("/")[2]
                return [Unit([name], Store(folder_of(self.path)).size(name))]
            if self.path.endswith(SUFFIXES):
                return row_units(self.path)
            texts = [(name, size) for name, size in Store(self.path).files().items() if name.endswith(".txt")]
            _, rows = open_rows(self.path)
        except DataError as problem:
            raise ConfigError(str(problem)) from None
        return [*(row_units(self.path) if rows or not texts else []), *grouped(texts)]

    def read(self, unit: Unit[RowRange | list[str]]) -> Documents:
        """One document for each row or file; empty text is listed."""
        name = self.source_name(self.path)
        found = _files(self, unit.what) if isinstance(unit.what, list) else read_rows(self.path, unit.what)
        for one in found:
            if isinstance(one, Lost):
                yield one
                continue
            where, row = one
            text = row.get(self.column)
            if not isinstance(text, str) or not text.strip():
                yield Lost(where, f"no text in {self.column!r} (there is {', '.join(map(str, row)) or 'nothing'})")
                continue
            meta = {"language": self.language, "license": self.license, **{key: row.get(key) for key in self.meta}}
            meta = {key: value for key, value in meta.items() if value not in (None, "")}
            yield Document(row_id(name, self.path, where), name, (Text(text),), meta)


def _files(config: PlainText, names: list[str]) -> Iterator[tuple[str, dict] | Lost]:
    """(where it lies, row) of each file, as if it were a row with one column."""
    store = Store(folder_of(config.path))
    for name in names:
        try:
            if store.size(name) > MAX_BYTES:
                raise DataError(f"of {store.size(name)} bytes, at most {MAX_BYTES} are read")
            yield store.path(name), {config.column: store.read(name).decode("utf-8-sig")}
        except (DataError, UnicodeDecodeError) as problem:
            yield Lost(store.path(name), str(problem))
