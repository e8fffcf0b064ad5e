"""What the formats of rows have in common: which rows of a file are meant, and about how large they are."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Shape(NamedTuple):
    """About how large the rows of a file are: rows for each byte of the file, and bytes of text a row."""

    rows_per_byte: float
    row_bytes: float


@dataclass(frozen=True)
class RowRange:
    """Some rows of a file. `start` and `end` count bytes of its (decompressed) text, None being the end of the file; where there
    is a row `group`, they count rows in it."""

    file: str
    group: int | None = field(default=None, kw_only=True)
    """Row group of a Parquet file."""
    start: int
    end: int | None
    item: int | None = None
    """Number of the first item, in a JSON array."""
    line: int | None = None
    """Lines before the first row, in a table."""
    columns: list[str] | None = None
    """Names of a table's columns, which its first line has and no other piece."""
