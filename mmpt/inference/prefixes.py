"""Keys and values of sequences that have ended, for those that begin with the same tokens: the next turn of a conversation reads
what is new in it alone (prefix caching, Zheng et al. 2023, "SGLang", arXiv:2312.07104)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

import numpy as np
from torch import Tensor

from mmpt.inference.reading import Prompt
from mmpt.model.entering import Remembered
from mmpt.model.key_values import Layers

SHORT = 32
"""Tokens from which on a sequence is kept: fewer are read as fast as they are found."""


class Medium(NamedTuple):
    """What has entered as features, told by its content: its slots hold the same id whatever it is."""

    kind: str
    places: tuple[int, ...]
    content: bytes


@dataclass(eq=False)
class _Kept:
    """A sequence of `client`; `kinds`: see `Prefixes`."""

    client: str
    kinds: frozenset[str]
    ids: np.ndarray
    media: tuple[Medium, ...]
    layers: Layers
    seen: Mapping[str, Remembered]


class Found(NamedTuple):
    """What is kept of the first `length` tokens of a prompt."""

    length: int
    layers: Layers
    seen: Mapping[str, Remembered]


class Prefixes:
    """At most `most` tokens, those that were used last; 0: none.

    A sequence is found by its own client alone: how fast another's prompt is read would tell what was asked before. `inside`:
    kinds of media that layers inside the decoder attend to from the first token on; a sequence is of use to one with the same
    of them alone (`kinds`).
    """

    def __init__(self, most: int, inside: Collection[str] = ()) -> None:
        self._most, self._inside = most, frozenset(inside)
        self._kept: list[_Kept] = []  # whatever was used last is last

    @property
    def tokens(self) -> int:
        """That are kept."""
        return sum(len(one.ids) for one in self._kept)

    def wants(self, length: int, room: int) -> bool:
        """Whether a sequence of so many tokens is kept, where there is room for `room`."""
        return SHORT <= length <= min(self._most, room)

    def keep(self, prompt: Prompt, ids: list[int], layers: Layers, seen: Mapping[str, Remembered], room: int) -> None:
        """A sequence `ids`, which has begun with `prompt` (or has not come to its end); all that is kept has `room`."""
        media = tuple(one for one in _media(prompt) if one.places[-1] < len(ids))
        new = _Kept(prompt.client, self._kinds(prompt), np.array(ids), media, layers, seen)
        # What it goes on from is in it.
        self._kept = [one for one in self._kept if not (_alike(one, new) and _common(one, new) == len(one.ids))]
        self._kept.append(new)
        self.fit(room)

    def fit(self, room: int) -> None:
        """Forget what was not used for longest, until the rest is within `room`."""
        while self._kept and self.tokens > min(self._most, room):
            del self._kept[0]

    def find(self, prompt: Prompt) -> Found | None:
        """The longest beginning of `prompt` that is kept, without its last token, of which the logits are wanted."""
        if not any(one.client == prompt.client for one in self._kept):
            return None
        asked = _Kept(prompt.client, self._kinds(prompt), np.array(prompt.ids[:-1]), _media(prompt), {}, {})
        lengths = [_common(one, asked) if _alike(one, asked) else 0 for one in self._kept]
        place = max(range(len(lengths)), key=lengths.__getitem__)
        length = lengths[place]
        if not length:
            return None
        best = self._kept.pop(place)
        self._kept.append(best)
        seen = {}
        for kind, one in best.seen.items():
            if count := int((one.places < length).sum()):
                seen[kind] = Remembered(one.memory.part(0, count), one.places[:count])
        return Found(length, best.layers, seen)

    def _kinds(self, prompt: Prompt) -> frozenset[str]:
        return self._inside & {kind for kind, *_ in prompt.media}


def _media(prompt: Prompt) -> tuple[Medium, ...]:
    return tuple(Medium(kind, tuple(places.tolist()), _content(value)) for kind, places, value in prompt.media)


def _content(value: Tensor) -> bytes:
    array = value.detach().float().contiguous().cpu().numpy()
    return sha256(f"{array.shape}".encode() + array.tobytes()).digest()


def _alike(one: _Kept, other: _Kept) -> bool:
    return one.client == other.client and one.kinds == other.kinds


def _common(one: _Kept, other: _Kept) -> int:
    """Tokens with which both begin, all of a medium or none."""
    most = min(len(one.ids), len(other.ids))
    different = np.flatnonzero(one.ids[:most] != other.ids[:most])
    length = int(different[0]) if len(different) else most
    for medium in {*one.media} ^ {*other.media}:
        length = min(length, medium.places[0])
    # The same in both may reach further than both are alike; before it lie those that were looked at.
    for medium in one.media:
        if medium.places[0] < length <= medium.places[-1]:
            length = medium.places[0]
    return length
