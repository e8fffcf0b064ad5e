"""Documents from a sprite sheet: one picture with many tiles, rows of tiles for each class."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from mmpt.config import Schema
from mmpt.data.sources.paths import existing_file
from mmpt.document import Document, Image, Text
from mmpt.errors import DataError
from mmpt.media import decode_image, encode_png


class SpritesConfig(Schema):
    """A sheet of square tiles of `tile` pixels, of which `margin` on each side is frame, read row by row.

    `classes` names the classes from top to bottom, each of `rows_per_class` rows of tiles. Every `fold`-th tile is held out:
    `split` "test" takes those, "train" the others.
    """

    kind: Literal["sprites"]
    file: Path
    classes: tuple[str, ...]
    split: Literal["train", "test"]
    tile: int
    margin: int = 0
    rows_per_class: int = 3
    fold: int = 5
    language: str = "en"
    license: str = ""


def sprites(config: SpritesConfig) -> Iterator[Document]:
    """One document for each tile: (image, text), the text being the name of its class."""
    sheet = decode_image(existing_file(config.file).read_bytes())
    columns, rows = sheet.width // config.tile, sheet.height // config.tile
    if rows < len(config.classes) * config.rows_per_class or not columns:
        wanted = len(config.classes) * config.rows_per_class
        raise DataError(
            f"{config.file}: {rows} rows of {columns} tiles, expected {wanted} rows for {len(config.classes)} classes"
        )
    for number in range(len(config.classes) * config.rows_per_class * columns):
        if (number % config.fold == 0) != (config.split == "test"):
            continue
        row, column = divmod(number, columns)
        left, top = column * config.tile + config.margin, row * config.tile + config.margin
        side = config.tile - 2 * config.margin
        picture = sheet.crop((left, top, left + side, top + side))
        name = config.classes[row // config.rows_per_class]
        parts = (Image(encode_png(picture), "png", side, side, alt=name), Text(name))
        meta = {"language": config.language, "license": config.license}
        yield Document(f"{config.split}-{number:06d}", config.file.name, parts, meta)
