"""Pictures with captions in files as COCO has them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmpt.config import Schema
from mmpt.document import Image
from mmpt.errors import DataError
from mmpt.evaluation.benchmarks._items import image_file
from mmpt.storage import read_json


class CocoFiles(Schema):
    """A captions file of COCO and its pictures."""

    annotations: Path
    """The file: {"images": […], "annotations": […]}."""
    images: Path
    """The folder of its pictures."""


class CocoImage(NamedTuple):
    """A picture and what people said of it."""

    item: str
    image: Image
    captions: tuple[str, ...]


def coco(files: CocoFiles, missing: list[str], limit: int | None = None) -> Sequence[CocoImage]:
    """The pictures of a captions file, in its order. Raises `DataError` where it is no such file or nothing is left."""
    content = read_json(files.annotations)
    try:
        captions: dict[object, list[str]] = {}
        for row in content["annotations"]:
            captions.setdefault(row["image_id"], []).append(row["caption"])
        rows = [(row["id"], row["file_name"]) for row in content["images"]]
    except (KeyError, TypeError) as problem:
        raise DataError(f"{files.annotations}: no captions file of COCO's form ({problem!r})") from None
    found = []
    for number, name in rows:
        if limit is not None and len(found) == limit:
            break
        try:
            if number not in captions:
                raise DataError("no caption")
            found.append(CocoImage(str(number), image_file(files.images, name), tuple(captions[number])))
        except DataError as problem:
            missing.append(f"{number}: {problem}")
    if not found:
        raise DataError(f"{files.annotations}: no picture with a caption")
    return found
