"""Pictures of classes, named by the examples that are nearest in pixels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydantic
from PIL import Image

from mmpt.data.shards.read import DocumentShards
from mmpt.document import Image as ImagePart
from mmpt.document import Text
from mmpt.errors import DataError
from mmpt.evaluation.metrics.recognition import same_text
from mmpt.evaluation.readers import PictureReader, Read
from mmpt.media import decode_image


class NearestNeighbour(PictureReader):
    """Gives the commonest name among the examples nearest in pixels, by Euclidean distance of grey pictures (k nearest
    neighbours, Cover and Hart 1967)."""

    examples: Path
    """Document shards whose documents begin with a picture and end with its name, as text."""
    side: int = pydantic.Field(default=28, ge=1)
    """Pixels of a side at which pictures are compared."""
    neighbours: int = pydantic.Field(default=5, ge=1)
    """Examples that vote."""

    def build(self) -> Read:
        """See `PictureReader.build`."""
        pairs = [
            (decode_image(picture.data), text.text)
            for document in DocumentShards(self.examples)
            for picture in document.parts[:1]
            for text in document.parts[-1:]
            if isinstance(picture, ImagePart) and isinstance(text, Text)
        ]
        if not pairs:
            raise DataError(f"{self.examples}: no document that begins with a picture and ends with a text")
        return nearest_neighbour_reader([one for one, _ in pairs], [name for _, name in pairs], self.side, self.neighbours)

    def same(self, one: str, other: str) -> bool:
        """See `PictureReader.same`: both normalised."""
        return same_text(one, other)


def nearest_neighbour_reader(pictures: Sequence[Image.Image], names: Sequence[str], side: int = 28, neighbours: int = 5) -> Read:
    """A reader that gives the commonest name among the pictures nearest in pixels (Euclidean, `side` × `side` grey)."""
    table = np.stack([_grey(picture, side) for picture in pictures])
    labels = np.array(names)

    def read(picture: Image.Image) -> str:
        # Stable: of pictures equally far the first count, so that the same picture is read the same every time.
        nearest = np.argsort(np.square(table - _grey(picture, side)).sum(axis=1), kind="stable")[:neighbours]
        values, counts = np.unique(labels[nearest], return_counts=True)
        return str(values[counts.argmax()])

    return read


def _grey(picture: Image.Image, side: int) -> np.ndarray:
    return np.asarray(picture.convert("L").resize((side, side), Image.Resampling.BILINEAR), dtype=np.float32).reshape(-1) / 255
