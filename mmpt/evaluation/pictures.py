"""What a picture shows, read by plain image analysis: nothing here was trained by mmpt."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from mmpt.data.synthetic import scenes

Reader = Callable[[Image.Image], str]


def read_scene(picture: Image.Image) -> str:
    """The caption of a drawn scene, or "" where the picture shows none."""
    scene = scenes.read_picture(picture)
    return scene.caption() if scene else ""


def same_scene(one: str, other: str) -> bool:
    """Whether two captions describe the same picture, all attributes alike."""
    first, second = scenes.read_caption(one), scenes.read_caption(other)
    return first is not None and first == second


def nearest_neighbour_reader(
    pictures: Sequence[Image.Image], names: Sequence[str], side: int = 28, neighbours: int = 5
) -> Reader:
    """A reader that gives the commonest name among the pictures nearest in pixels (Euclidean, `side` × `side` grey)."""
    table = np.stack([_grey(picture, side) for picture in pictures])
    labels = np.array(names)

    def read(picture: Image.Image) -> str:
        nearest = np.argsort(np.square(table - _grey(picture, side)).sum(axis=1), kind="stable")[:neighbours]
        values, counts = np.unique(labels[nearest], return_counts=True)
        return str(values[counts.argmax()])

    return read


def _grey(picture: Image.Image, side: int) -> np.ndarray:
    return np.asarray(picture.convert("L").resize((side, side), Image.Resampling.BILINEAR), dtype=np.float32).reshape(-1) / 255
