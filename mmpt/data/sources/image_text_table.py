"""Pictures of a folder with their texts in a table: CSV, TSV, JSON lines or Parquet.

sources: [{kind: image_text_table, table: pairs.csv, images: pictures/, image: file, text: caption}]
"""

from typing import Literal

from mmpt.data.lost import Documents, Lost
from mmpt.data.sources.base import SourceSchema, Unit, source_name
from mmpt.data.sources.pictures import Naming, caption, find_picture
from mmpt.data.sources.rows import MEDIA_BYTES, read_rows, row_id, row_units
from mmpt.data.store import Store
from mmpt.document import Document, Text
from mmpt.errors import DataError


class ImageTextTableConfig(SourceSchema):
    """Each row names a picture in the folder `images` (column `image`) and has its text (column `text`; of a list the first)."""

    kind: Literal["image_text_table"] = "image_text_table"
    table: str
    images: str
    image: str = "image"
    text: str = "text"
    naming: Naming = "path"
    meta: tuple[str, ...] = ()
    language: str = ""
    license: str = ""


def units(config: ImageTextTableConfig) -> list[Unit]:
    """Ranges of rows. Raises `ConfigError` where there is no such table."""
    return row_units(config.table, MEDIA_BYTES)


def read(config: ImageTextTableConfig, unit: Unit) -> Documents:
    """One document for each row: (image, text). A row without its text or its picture is listed, never half."""
    images, name = Store(config.images), source_name(config, config.table)
    for one in read_rows(config.table, unit.what):
        if isinstance(one, Lost):
            yield one
            continue
        where, row = one
        text = caption(row.get(config.text))
        if text is None:
            yield Lost(where, f"no text in {config.text!r}")
            continue
        try:
            picture = find_picture(images, row.get(config.image), config.naming, text)
        except DataError as problem:
            yield Lost(where, str(problem))
            continue
        meta = {"language": config.language, "license": config.license, **{key: row.get(key) for key in config.meta}}
        meta = {key: value for key, value in meta.items() if value not in (None, "")}
        document_id = row_id(name, config.table, where)
        yield Document(document_id, name, (picture, Text(text)), meta)
