"""Documents from a sprite sheet: one large picture of equal square tiles, a fixed number of rows of tiles for each class.

sources: [{kind: sprites, file: sheet.png, classes: [cat, dog], split: train, tile: 28}]
"""

from typing import Literal

import numpy as np
import pydantic
from PIL import Image as Pillow

from mmpt.data.lost import Documents
from mmpt.data.sources import NamedSource
from mmpt.data.store import at
from mmpt.data.unit import Unit
from mmpt.document import Document, Image, Text
from mmpt.errors import ConfigError, DataError
from mmpt.media import decode_image, encode_png


class Sprites(NamedSource):
    """A sprite sheet of equal square tiles, some rows of tiles for each class: the form in which Fashion-MNIST is shown (Xiao et
    al. 2017, arXiv:1708.07747); own.

    From the top, `rows_per_class` rows of tiles belong to each of `classes`.
    """

    file: str
    """The sheet, a path or a URL."""
    classes: tuple[str, ...] = pydantic.Field(min_length=1)
    """Names of the classes from the top."""
    split: Literal["train", "test"]
    """Which side of the split."""
    tile: int = pydantic.Field(ge=1)
    """Pixels of a tile's side."""
    margin: int = pydantic.Field(default=0, ge=0)
    """Pixels on each side of a tile that are left out."""
    rows_per_class: int = pydantic.Field(default=3, ge=1)
    """Rows of tiles of each class."""
    held_out_every: int = pydantic.Field(default=5, ge=2)
    """Every so many-th tile of the sheet, from the first on, is on the test side."""
    variants: int = pydantic.Field(default=1, ge=1)
    """Documents of each tile: itself, and copies moved and mirrored half of the time, for data of which there is little."""
    shift: int = pydantic.Field(default=2, ge=0)
    """Pixels by which a copy is moved at most; the border goes on."""
    seed: int = 0
    """What the copies are drawn with."""
    license: str = ""
    """License of the documents, for their meta."""

    @pydantic.model_validator(mode="after")
    def _something_is_left(self) -> "Sprites":
        if 2 * self.margin >= self.tile:
            raise ValueError(f"margin {self.margin} leaves nothing of a tile of {self.tile} pixels")
        return self

    def units(self) -> list[Unit[str]]:
        """The whole sheet. Raises `ConfigError` where there is no such file."""
        store, name = at(self.file)
        try:
            return [Unit(self.file, store.size(name) * self.variants)]
        except DataError as problem:
            raise ConfigError(str(problem)) from None

    def read(self, unit: Unit[str]) -> Documents:
        """The documents of each tile of the split, row by row: (image, its class as text).

        Raises `DataError` where the file is no picture or not of whole tiles of every class.
        """
        path = unit.what
        store, name = at(path)
        source = self.name or name.rpartition(".")[0]
        try:
            sheet = decode_image(store.read(name))
        except DataError as problem:
            raise DataError(f"{path}: {problem}") from None
        if sheet.width % self.tile or sheet.height % self.tile:
            raise DataError(f"{path}: {sheet.width} x {sheet.height} pixels, expected multiples of the tile's {self.tile}")
        columns, rows = sheet.width // self.tile, sheet.height // self.tile
        expected = self.rows_per_class * len(self.classes)
        if rows != expected:
            raise DataError(f"{path}: {rows} rows of tiles, expected {expected} rows ({self.rows_per_class} for each class)")
        for index in range(rows * columns):
            if (index % self.held_out_every == 0) != (self.split == "test"):
                continue
            row, column = divmod(index, columns)
            left, top = column * self.tile, row * self.tile
            inner = self.tile - self.margin
            picture = sheet.crop((left + self.margin, top + self.margin, left + inner, top + inner))
            label = self.classes[row // self.rows_per_class]
            for variant in range(self.variants):
                varied = _vary(picture, self.shift, (self.seed, index, variant)) if variant else picture
                parts = (Image(encode_png(varied), "png", varied.width, varied.height, alt=label), Text(label))
                meta = {"language": "en", "license": self.license}
                yield Document(f"{source}/{self.split}-{index:06d}-{variant}", source, parts, meta)


def _vary(picture: Pillow.Image, shift: int, seed: tuple[int, ...]) -> Pillow.Image:
    random = np.random.default_rng(seed)
    top, left = random.integers(2 * shift + 1, size=2)
    pixels = np.pad(np.asarray(picture), ((shift, shift), (shift, shift), (0, 0)), mode="edge")
    pixels = pixels[top : top + picture.height, left : left + picture.width]
    return Pillow.fromarray(np.ascontiguousarray(pixels[:, ::-1]) if random.random() < 0.5 else pixels)
