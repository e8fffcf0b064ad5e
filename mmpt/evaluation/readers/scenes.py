"""The drawn scenes of `spoken_scenes`, read back from their pixels and captions."""

from PIL import Image

from mmpt.data.synthetic import scenes
from mmpt.evaluation.readers import PictureReader, Read


class Scenes(PictureReader):
    """Reads a drawn scene from its pixels: two shapes, their colours, sizes and places, and the background; two captions are the
    same where all of these are (our own, for the source `spoken_scenes`)."""

    def build(self) -> Read:
        """See `PictureReader.build`."""
        return read_scene

    def same(self, one: str, other: str) -> bool:
        """See `PictureReader.same`; nothing is the same as a text that describes no scene."""
        first, second = scenes.read_caption(one), scenes.read_caption(other)
        return first is not None and first == second


def read_scene(picture: Image.Image) -> str:
    """The caption of a drawn scene, or "" where the picture shows none."""
    scene = scenes.read_picture(picture)
    return scene.caption() if scene else ""
