"""Documents of plain text from JSON lines, Parquet, CSV or TSV files, one for each row, or from .txt files.

sources: [{kind: plain_text, path: corpus/, column: text, language: en}]
"""

from typing import Literal

from mmpt.data.lost import Documents, Lost
from mmpt.data.sources.base import SourceSchema, Unit, grouped, source_name
from mmpt.data.sources.rows import SUFFIXES, folder_of, open_rows, read_rows, row_id, row_units
from mmpt.data.store import Store
from mmpt.document import Document, Text
from mmpt.errors import ConfigError, DataError

MAX_BYTES = 256 << 20


class PlainTextConfig(SourceSchema):
    """A file, or every file in a folder. `column` holds the text; the columns in `meta` go along."""

    kind: Literal["plain_text"] = "plain_text"
    path: str
    column: str = "text"
    meta: tuple[str, ...] = ()
    language: str = ""
    license: str = ""


def units(config: PlainTextConfig) -> list[Unit]:
    """Ranges of rows, then runs of .txt files. Raises `ConfigError` where there is neither."""
    try:
        if config.path.endswith(".txt"):
            name = config.path.rpartition("/")[2]
            return [Unit([name], Store(folder_of(config.path)).size(name))]
        if config.path.endswith(SUFFIXES):
            return row_units(config.path)
        texts = [(name, size) for name, size in Store(config.path).files().items() if name.endswith(".txt")]
        _, rows = open_rows(config.path)
    except DataError as problem:
        raise ConfigError(str(problem)) from None
    return [*(row_units(config.path) if rows or not texts else []), *grouped(texts)]


def read(config: PlainTextConfig, unit: Unit) -> Documents:
    """One document for each row or file; empty text is listed."""
    name = source_name(config, config.path)
    found = _files(config, unit.what) if isinstance(unit.what, list) else read_rows(config.path, unit.what)
    for one in found:
        if isinstance(one, Lost):
            yield one
            continue
        where, row = one
        text = row.get(config.column)
        if not isinstance(text, str) or not text.strip():
            yield Lost(where, f"no text in {config.column!r} (there is {', '.join(map(str, row)) or 'nothing'})")
            continue
        meta = {"language": config.language, "license": config.license, **{key: row.get(key) for key in config.meta}}
        meta = {key: value for key, value in meta.items() if value not in (None, "")}
        yield Document(row_id(name, config.path, where), name, (Text(text),), meta)


def _files(config: PlainTextConfig, names: list[str]) -> Documents:
    store = Store(folder_of(config.path))
    for name in names:
        try:
            if store.size(name) > MAX_BYTES:
                raise DataError(f"of {store.size(name)} bytes, at most {MAX_BYTES} are read")
            yield store.path(name), {config.column: store.read(name).decode("utf-8-sig")}
        except (DataError, UnicodeDecodeError) as problem:
            yield Lost(store.path(name), str(problem))
