"""Parquet files: ranges of rows within their row groups."""

import datetime
import decimal
import io
from collections.abc import Iterator

from mmpt.data.extra import need
from mmpt.data.formats.ranges import Ranges
from mmpt.data.formats.row_range import RowRange, Shape
from mmpt.data.lost import Lost
from mmpt.data.store import Store
from mmpt.errors import DataError


def sample(store: Store, name: str, size: int) -> Shape:
    """How large the rows are, as the end of the file says."""
    found = parquet_file(store, name).metadata
    total = sum(found.row_group(number).total_byte_size for number in range(found.num_row_groups))
    return Shape(max(1, found.num_rows) / size, max(1.0, total / max(1, found.num_rows)))


def cut(store: Store, name: str, size: int, rows: int, shape: Shape) -> Iterator[tuple[RowRange, float]]:
    """(row group and rows in it, how many) of each piece."""
    found = parquet_file(store, name).metadata
    for group in range(found.num_row_groups):
        count = found.row_group(group).num_rows
        for start in range(0, count, rows):
            end = min(start + rows, count)
            yield RowRange(name, start, end, group=group), float(end - start)


def read(store: Store, what: RowRange) -> Iterator[tuple[str, dict] | Lost]:
    """(where it lies, row) of each row; a `Lost` for a range whose group is damaged."""
    path, group, start, end = store.path(what.file), what.group, what.start, what.end or what.start
    try:
        rows = parquet_file(store, what.file).read_row_group(group).slice(start, end - start).to_pylist()
    except (OSError, ValueError, NotImplementedError) as problem:
        yield Lost(f"{path}, row group {group}, rows {start} to {end - 1}", f"damaged ({problem})")
        return
    for number, row in enumerate(rows, start=start):
        yield f"{path}, row group {group}, row {number}", {column: _plain(value) for column, value in row.items()}


def parquet_file(store: Store, name: str):
    """The file as pyarrow opens it, read by ranges. Raises `DataError` where it is none."""
    parquet = need("pyarrow.parquet")
    try:
        return parquet.ParquetFile(io.BufferedReader(Ranges(store, name), 1 << 20))
    except (OSError, ValueError) as problem:
        raise DataError(f"{store.path(name)}: no Parquet file ({problem})") from None


def _plain(value: object) -> object:
    """A value of a Parquet column as JSON can hold it: dates and decimals as text, NaN as null, also inside of lists."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, datetime.date | datetime.time | datetime.timedelta | decimal.Decimal):
        return str(value)
    return None if isinstance(value, float) and value != value else value
