"""How many rows of features a medium takes, and what stands between them: known before anything is encoded."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import pydantic

from mmpt.config import Schema
from mmpt.data.shards.tokens import Medium
from mmpt.data.tiles import Tiles
from mmpt.document import Image, Speech
from mmpt.media import decode_image, decode_speech
from mmpt.modality import SAMPLE_RATE, medium_of
from mmpt.vocabulary import Vocabulary


class View(NamedTuple):
    """What an encoder sees at once: a picture, a tile of it, an utterance. `tag`: text in front of its `rows`."""

    tag: str
    rows: int


class TaggedView(NamedTuple):
    """A view whose tag is `ids`."""

    ids: list[int]
    rows: int


class MediumRows(Schema):
    """Rows of the media of one kind."""

    @abstractmethod
    def views(self, data: bytes) -> list[View]:
        """The views of a medium, of its bytes. Raises `DataError` where it cannot be decoded."""

    def shares(self, views: int) -> tuple[int, ...]:
        """The rows of each of so many views of a medium; none: equal shares of all it has."""
        return ()


class PictureRows(MediumRows):
    """Rows of a picture."""

    rows: pydantic.PositiveInt
    """That a connector gives for a picture, or for a tile of it."""
    whole: pydantic.PositiveInt | None = None
    """For the whole picture behind its tiles, where it has others than a tile (`enters: {kind: cross, whole_as_rows: true}`)."""
    side: pydantic.PositiveInt | None = None
    """Of the encoder, in pixels: where pictures are cut into tiles."""
    tiles: Tiles | None = None
    """How pictures are cut into tiles, as in the recipe; null: they are not."""

    @pydantic.model_validator(mode="after")
    def _side_of_tiles(self) -> "PictureRows":
        if self.tiles is not None and self.side is None:
            raise ValueError("side: missing; tiles have the side of the encoder")
        if self.whole is not None and (self.tiles is None or not self.tiles.thumbnail):
            raise ValueError("whole: it goes with tiles and their thumbnail")
        return self

    def views(self, data: bytes) -> list[View]:
        picture = decode_image(data)
        if self.tiles is None or self.side is None:
            return [View("", self.rows)]
        names = self.tiles.names(self.tiles.grid(*picture.size, self.side))
        return [View(name, rows) for name, rows in zip(names, self.shares(len(names)), strict=True)]

    def shares(self, views: int) -> tuple[int, ...]:
        """The rows of each of so many views of a picture."""
        return (self.rows,) * views if self.whole is None else (self.rows,) * (views - 1) + (self.whole,)


class SpeechRows(MediumRows):
    """Rows of an utterance."""

    rows: pydantic.PositiveInt
    """That a connector gives for an utterance, or for `seconds` of it."""
    seconds: pydantic.PositiveFloat | None = None
    """An utterance has its share of `rows`, which are those of so many seconds (`by_duration` in the recipe; Whisper hears 30);
    null: it has all of them."""

    def views(self, data: bytes) -> list[View]:
        samples = len(decode_speech(data, SAMPLE_RATE))
        if self.seconds is None:
            return [View("", self.rows)]
        return [View("", rows_of(samples, round(self.seconds * SAMPLE_RATE), self.rows))]


def rows_of(samples: int, window: int, rows: int) -> int:
    """Of `rows` for `window` samples, those that `samples` reach into: one at least, all at most."""
    return max(1, min(rows, -(-samples * rows // window)))


def feature_block(
    part: Image | Speech, views: Sequence[TaggedView], start: int, vocabulary: Vocabulary
) -> tuple[Medium, list[int]]:
    """(The medium, the ids of its block) of a part whose block begins at position `start` of a document."""
    kind = medium_of(part)
    runs, at = [], 0
    for tag, rows in views:
        runs.append((at + len(tag), rows))
        at += len(tag) + rows
    slots = sum(view.rows for view in views)
    # + 1: after the mark that opens the block. Without tags, all slots are one run, unless views have different numbers of them.
    told = at > slots or len({view.rows for view in views}) > 1
    medium = Medium(kind, part.suffix, part.data, start + 1, slots, tuple(runs) if told else ())
    return medium, vocabulary.encode_views(kind, views)
