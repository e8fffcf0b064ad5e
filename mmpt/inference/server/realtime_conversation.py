"""The conversation of a realtime session: its items by their ids, and what of them the model reads."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from mmpt.chat import Coded, Said
from mmpt.codebooks import FrameReader, in_order
from mmpt.document import Image, Role, Speech, Text
from mmpt.errors import DataError
from mmpt.inference.server.limits import Limits
from mmpt.vocabulary import Vocabulary

T = TypeVar("T")


@dataclass(eq=False)
class Item:
    """A message. `content`: as clients see it, without sound; `said`: as the model reads it; `sound`: what came in, float32 at
    16 kHz, of which `speech` is more than silence; `ids`: what the model wrote; `seconds`: how long what it spoke lasts."""

    id: str
    role: Role
    content: list[dict[str, Any]] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    status: str = "completed"
    sound: np.ndarray | None = None
    speech: slice = field(default_factory=lambda: slice(None))
    ids: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def held(self) -> int:
        """Bytes of media that are kept for it."""
        media = [one.data for one in self.said if isinstance(one, Image | Speech)]
        return sum(map(len, media)) + (0 if self.sound is None else self.sound.nbytes)

    @property
    def media(self) -> int:
        """How many pictures and sounds are read anew each time."""
        return sum(isinstance(one, Image | Speech) for one in self.said)

    @property
    def characters(self) -> int:
        """Of its texts."""
        return sum(len(one.text) for one in self.said if isinstance(one, Text))

    @property
    def shown(self) -> dict[str, Any]:
        base = {"id": self.id, "object": "realtime.item", "type": "message", "status": self.status, "role": self.role}
        return {**base, "content": self.content}


class Conversation:
    """Items in their order, within `limits` and of so many bytes of media as there is `room` for: where there would be more, the
    oldest go."""

    def __init__(self, limits: Limits, room: Callable[[int], bool] = lambda held: True) -> None:
        self._items: list[Item] = []
        self._limits, self._room = limits, room

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def find(self, name: str) -> Item:
        """Raises `DataError` where there is none of that id."""
        found = next((item for item in self._items if item.id == name), None)
        if found is None:
            raise DataError(f"item_id: no item {name!r} in this conversation")
        return found

    def known(self, name: str | None) -> bool:
        return any(item.id == name for item in self._items)

    @property
    def last(self) -> str | None:
        """The id of the last item."""
        return self._items[-1].id if self._items else None

    def add(self, item: Item, after: str | None = None) -> tuple[str | None, list[Item]]:
        """Put it behind the item `after` ("root": first; None: last). Returns the id of the one before it, and what is forgotten
        for it. Raises `DataError` where there is no such item, or one of its own id."""
        if self.known(item.id):
            raise DataError(f"item.id: there is an item {item.id!r} already")
        place = len(self._items) if after is None else 0 if after == "root" else self._items.index(self.find(after)) + 1
        before = self._items[place - 1].id if place else None
        self._items.insert(place, item)
        gone = []
        while self._full and len(self._items) > 1:
            gone.append(self._items.pop(0))
        return before, gone

    @property
    def held(self) -> int:
        """Bytes of media that are kept."""
        return sum(one.held for one in self._items)

    @property
    def _full(self) -> bool:
        limits, characters = self._limits, sum(one.characters for one in self._items)
        too_much = len(self._items) > limits.items or characters > limits.text or self.held > limits.conversation
        return too_much or not self._room(self.held)

    def delete(self, name: str) -> None:
        """Raises `DataError` where there is none of that id."""
        self._items.remove(self.find(name))


def prompt(items: Sequence[Item], instructions: str, turns: bool) -> list[Said]:
    """What the model reads: `instructions` as the system's, then the items, those of one role in a row as one turn. Without
    `turns` the model has learned no conversation: then only what came since its last answer.

    Raises `DataError` where that is nothing.
    """
    if not turns:
        last = max((n for n, item in enumerate(items) if item.role == "assistant"), default=-1)
        items = items[last + 1 :]
    found: list[Said] = [Text(instructions, role="system")] if instructions else []
    turn, role = 0, "system" if instructions else None
    for item in items:
        if not item.said:
            continue
        turn, role = turn + (item.role != role), item.role
        for one in item.said:
            if isinstance(one, Coded):
                found.append(one._replace(role=item.role, turn=turn))
            else:
                found.append(replace(one, role=item.role, turn=turn))
    if not found:
        raise DataError("there is nothing to answer: the conversation is empty")
    return found


def beginnings(items: Sequence[Item]) -> list[int]:
    """Where what is read may begin when the oldest items are left out: with no answer, if that is not all there is, and with
    something said from there on."""
    end, said = len(items) - 1, max((n for n, item in enumerate(items) if item.said), default=0)
    return [0, *(n for n in range(1, said + 1) if n == end or items[n].role != "assistant")]


async def longest(starts: Sequence[int], attempt: Callable[[int], Awaitable[T | Exception]]) -> T | Exception:
    """What `attempt` gives for the first of `starts` for which that is no exception (then it is none for later ones either); the
    exception of the last where there is none. All is tried first, as it mostly fits; then halves: each attempt reads a prompt."""
    found, low, high = await attempt(starts[0]), 1, len(starts)
    if not isinstance(found, Exception):
        return found
    while low < high:
        middle = (low + high) // 2
        tried = await attempt(starts[middle])
        if isinstance(tried, Exception):
            low = middle + 1
            found = tried if isinstance(found, Exception) else found
        else:
            found, high = tried, middle
    return found


def whole(vocabulary: Vocabulary, ids: Sequence[int], seconds: float | None = None) -> list[int]:
    """Of an answer that was broken off anywhere, what can be read: its text and whole frames of speech, each block closed. With
    `seconds` only what was heard in so many: the text goes, since it runs ahead of the sound."""
    marks = {vocabulary.special(f"<|{kind}|>"): kind for kind in ("image", "speech")}
    ends = {vocabulary.special(f"<|/{kind}|>") for kind in ("image", "speech")}
    rate = vocabulary.speech_rate / vocabulary.speech_codebooks if vocabulary.speech_codes else 0.0
    left = None if seconds is None else int(seconds * rate + 1e-6)
    found: list[int] = []
    for kind, block in _blocks(ids, marks, ends):
        if kind == "speech":
            frames = _frames(vocabulary, block, left)
            left = None if left is None else left - len(frames)
            if len(frames):
                size = vocabulary.speech_codes // vocabulary.speech_codebooks
                found += vocabulary.encode_speech(in_order(frames, size, vocabulary.speech_layout))
        elif kind == "image":
            if len(block) == vocabulary.codes_per_image and seconds is None:
                found += vocabulary.encode_image(np.array(block) - vocabulary.image_offset)
        elif seconds is None:
            found += block
    return found


def _blocks(ids: Sequence[int], marks: dict[int, str], ends: set[int]) -> Iterator[tuple[str, list[int]]]:
    kind, block = "text", []
    for token in ids:
        if token in marks or token in ends:
            yield kind, block
            kind, block = marks.get(token, "text"), []
        else:
            block.append(token)
    yield kind, block


def _frames(vocabulary: Vocabulary, block: Sequence[int], most: int | None) -> np.ndarray:
    size = vocabulary.speech_codes // vocabulary.speech_codebooks
    reader = FrameReader(vocabulary.speech_codebooks, size, vocabulary.speech_layout)
    reader.push(np.array(block, dtype=np.int64) - vocabulary.speech_offset)
    return reader.take(reader.count if most is None else min(reader.count, most))
