"""Numbers drawn on what is in a picture, and the list of it."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import pydantic
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from mmpt.data.curate.compositions import Composition
from mmpt.data.curate.pictures_asked import without_boxes
from mmpt.data.lost import Documents, Lost
from mmpt.document import Document, Image, Text
from mmpt.errors import DataError
from mmpt.media import decode_image, encode_png

RULE = "list_items"


class Item(NamedTuple):
    """Something in a picture: (left, top, right, bottom) in pixels, and what it is."""

    box: tuple[float, float, float, float]
    text: str


class ListItems(Composition):
    """Pictures with numbered marks on their objects, and the list of these by number as the answer (SoM-LLaVA, "List Items One by
    One", Yan et al. 2024, arXiv:2404.16375, section 3).

    Where the objects are stands in meta["boxes"]: [{"part": 0, "box": [left, top, right, bottom], "text": "a dog"}], in pixels,
    of a part that is a picture. Each such picture becomes a conversation beside its document, ID/marks-PART; numbers are given in
    an order that is drawn. A box that is none is listed, and so is each picture of which no box is left.
    """

    carries: ClassVar[tuple[str, ...]] = ("List Items One by One (SoM-LLaVA)",)

    question: str = "I have put a numbered mark on each object in the picture. List them one by one by their numbers."
    """What the user says behind the picture."""
    most: int = pydantic.Field(default=20, ge=1)
    """Objects of a picture that are marked; of more, those of the largest boxes."""
    size: int = pydantic.Field(default=0, ge=0)
    """Height of a number in pixels; 0: a twentieth of the picture's longer side, at least 9."""
    original: bool = True
    """Whether the document itself is written before them."""
    seed: int = 0
    """What the order of numbers is drawn with."""

    def compose(self, documents: Iterable[Document | Lost]) -> Documents:
        for one in documents:
            if isinstance(one, Lost) or "boxes" not in one.meta:
                yield one
                continue
            if self.original:
                yield one
            yield from self._marked(one)

    def _marked(self, document: Document) -> Documents:
        found: dict[int, list[Item]] = {}
        for number, entry in enumerate(document.meta["boxes"] if isinstance(document.meta["boxes"], list) else [None]):
            try:
                place, item = _item(document, entry)
                found.setdefault(place, []).append(item)
            except DataError as problem:
                yield Lost(f"{document.id}, box {number}", str(problem), document.id, False, RULE)
        written = 0
        for place, items in sorted(found.items()):
            image = document.parts[place]
            assert isinstance(image, Image)
            name = f"{document.id}/marks-{place}"
            items = sorted(items, key=lambda item: -_area(item))[: self.most]
            random.Random(f"{self.seed} {name}").shuffle(items)
            try:
                picture = draw_marks(decode_image(image.data), items, self.size)
            except DataError as problem:
                yield Lost(name, str(problem), document.id, False, part="image")
                continue
            said = "\n".join(f"{number}. {item.text}" for number, item in enumerate(items, start=1))
            shown = replace(image, data=encode_png(picture), suffix="png", weight=0.0, role="user", turn=0)
            parts = (shown, Text(self.question, 0.0, "user"), Text(said, 1.0, "assistant", 1))
            meta = without_boxes(document.meta)
            written += 1
            yield Document(name, document.source, parts, {**meta, "marks": [list(item.box) for item in items]})
        if not written and not self.original:
            yield Lost(document.id, "no picture of it could be marked", document.id, True, RULE)


def _item(document: Document, entry: object) -> tuple[int, Item]:
    """Raises `DataError` where `entry` is no box in a picture of the document."""
    said: dict[str, Any] = entry if isinstance(entry, dict) else {}
    place, box, text = (said.get(name) for name in ("part", "box", "text"))
    part = document.parts[place] if type(place) is int and 0 <= place < len(document.parts) else None
    numbers = isinstance(box, list | tuple) and len(box) == 4 and all(type(one) in (int, float) for one in box)
    if not (isinstance(place, int) and isinstance(part, Image) and numbers and isinstance(text, str) and text.strip()):
        raise DataError(f"expected part (a picture), box [left, top, right, bottom] and text, not {str(entry)[:120]}")
    left, top, right, bottom = cast(Sequence[int], box)
    if not (0 <= left < right <= part.width and 0 <= top < bottom <= part.height):
        raise DataError(f"box {[left, top, right, bottom]} does not lie in a picture of {part.width} x {part.height} pixels")
    return place, Item((left, top, right, bottom), text.strip())


def _area(item: Item) -> float:
    left, top, right, bottom = item.box
    return (right - left) * (bottom - top)


def draw_marks(picture: Pillow.Image, items: list[Item], size: int = 0) -> Pillow.Image:
    """`picture` with the number of each of `items`, from 1, white on black in the middle of its box."""
    height = size or max(9, round(max(picture.size) / 20))
    font = ImageFont.load_default(height)
    found = picture.copy()
    brush = ImageDraw.Draw(found)
    for number, item in enumerate(items, start=1):
        x, y = np.add(item.box[:2], item.box[2:]) / 2
        box = brush.textbbox((x, y), str(number), font=font, anchor="mm")
        brush.rectangle((box[0] - 2, box[1] - 2, box[2] + 2, box[3] + 2), fill="black")
        brush.text((x, y), str(number), font=font, anchor="mm", fill="white")
    return found
