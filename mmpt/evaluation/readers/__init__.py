"""Readers of pictures: what a picture shows, in words, read by plain image analysis. Nothing here was trained by mmpt.

reader: scenes
reader: {kind: nearest_neighbour, examples: shards/train}
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from mmpt.methods import Method

if TYPE_CHECKING:
    from PIL import Image

Read = Callable[["Image.Image"], str]
"""A picture → the words for what it shows, "" where it shows nothing that is known."""


class PictureReader(Method):
    """Reads generated pictures back, to hold them against what was asked for."""

    key: ClassVar[str] = "reader"

    @abstractmethod
    def build(self) -> Read:
        """What reads; examples, where it needs any, are read here. Raises `DataError` where there are none."""

    @abstractmethod
    def same(self, one: str, other: str) -> bool:
        """Whether two texts say the same of a picture."""
