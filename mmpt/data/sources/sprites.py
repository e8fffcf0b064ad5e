"""Documents from a sprite sheet: one large picture of equal square tiles, a fixed number of rows of tiles for each class.

sources: [{kind: sprites, file: sheet.png, classes: [cat, dog], split: train, tile: 28}]
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pydantic
from PIL import Image as Pillow

from mmpt.data.lost import Documents
from mmpt.data.sources.base import SourceSchema, Unit
from mmpt.data.sources.paths import existing_file
from mmpt.document import Document, Image, Text
from mmpt.errors import DataError
from mmpt.media import decode_image, encode_png


class SpritesConfig(SourceSchema):
    """A sheet of tiles of `tile` × `tile` pixels, of which `margin` pixels on each side are left out.

    From the top, `rows_per_class` rows of tiles belong to each of `classes`. Every `held_out_every`-th tile of the sheet, from
    the first on, is "test"; the others are "train". Each tile gives `variants` documents: itself, and copies moved by up to
    `shift` pixels (the border goes on) and mirrored half of the time, for data of which there is little.
    """

    kind: Literal["sprites"] = "sprites"
    file: Path
    classes: tuple[str, ...] = pydantic.Field(min_length=1)
    split: Literal["train", "test"]
    tile: int = pydantic.Field(ge=1)
    margin: int = pydantic.Field(0, ge=0)
    rows_per_class: int = pydantic.Field(3, ge=1)
    held_out_every: int = pydantic.Field(5, ge=2)
    variants: int = pydantic.Field(1, ge=1)
    shift: int = pydantic.Field(2, ge=0)
    seed: int = 0
    license: str = ""

    @pydantic.model_validator(mode="after")
    def _something_is_left(self) -> "SpritesConfig":
        if 2 * self.margin >= self.tile:
            raise ValueError(f"margin {self.margin} leaves nothing of a tile of {self.tile} pixels")
        return self


def units(config: SpritesConfig) -> list[Unit]:
    """The whole sheet. Raises `ConfigError` where there is no such file."""
    return [Unit(str(config.file), existing_file(config.file).stat().st_size * config.variants)]


def read(config: SpritesConfig, unit: Unit) -> Documents:
    """The documents of each tile of the split, row by row: (image, its class as text).

    Raises `DataError` where the file is no picture or not of whole tiles of every class.
    """
    path = Path(unit.what)
    source = config.name or path.stem
    try:
        sheet = decode_image(path.read_bytes())
    except DataError as problem:
        raise DataError(f"{path}: {problem}") from None
    if sheet.width % config.tile or sheet.height % config.tile:
        raise DataError(f"{path}: {sheet.width} x {sheet.height} pixels, expected multiples of the tile's {config.tile}")
    columns, rows = sheet.width // config.tile, sheet.height // config.tile
    expected = config.rows_per_class * len(config.classes)
    if rows != expected:
        raise DataError(f"{path}: {rows} rows of tiles, expected {expected} rows ({config.rows_per_class} for each class)")
    for index in range(rows * columns):
        if (index % config.held_out_every == 0) != (config.split == "test"):
            continue
        row, column = divmod(index, columns)
        left, top = column * config.tile, row * config.tile
        inner = config.tile - config.margin
        picture = sheet.crop((left + config.margin, top + config.margin, left + inner, top + inner))
        label = config.classes[row // config.rows_per_class]
        for variant in range(config.variants):
            varied = _vary(picture, config.shift, (config.seed, index, variant)) if variant else picture
            parts = (Image(encode_png(varied), "png", varied.width, varied.height, alt=label), Text(label))
            meta = {"language": "en", "license": config.license}
            yield Document(f"{source}/{config.split}-{index:06d}-{variant}", source, parts, meta)


def _vary(picture: Pillow.Image, shift: int, seed: tuple[int, ...]) -> Pillow.Image:
    random = np.random.default_rng(seed)
    top, left = random.integers(2 * shift + 1, size=2)
    pixels = np.pad(np.asarray(picture), ((shift, shift), (shift, shift), (0, 0)), mode="edge")
    pixels = pixels[top : top + picture.height, left : left + picture.width]
    return Pillow.fromarray(np.ascontiguousarray(pixels[:, ::-1]) if random.random() < 0.5 else pixels)
