"""Sequences on their way, as the rows of the engine's cache, and pieces of them, as they stand in one pass of the decoder."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from mmpt.inference.adjusting import Likely
from mmpt.inference.grammar import Grammar
from mmpt.inference.reading import Prompt
from mmpt.inference.settings import Settings
from mmpt.inference.text_grammar import TextGrammar
from mmpt.model.entering import Entering, Memory, Remembered


@dataclass(eq=False)
class Writing:
    """A sequence on its way: `ids` written so far, without its end; `finished` once there will be no more. `likely`: of each id,
    where the settings ask for `logprobs`. `reused`: tokens of the prompt that did not have to be read."""

    prompt: Prompt
    settings: Settings
    ids: list[int] = field(default_factory=list)
    finished: bool = False
    likely: list[Likely] = field(default_factory=list)
    reused: int = 0

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.settings.seed)

    @property
    def rows(self) -> int:
        """Of the cache at most: its own, and that of its guide."""
        return 1 if self.settings.guidance == 1.0 else 2

    @property
    def most(self) -> int:
        """Tokens that it will be at most."""
        return len(self.prompt.ids) + self.settings.max_new_tokens


@dataclass(eq=False)
class Row:
    """A row of the cache: the sequence itself, or what its pictures would be without the prompt (`guide`). It begins with
    `prompt`; `pending` is the token that the decoder has not seen yet."""

    writing: Writing
    grammar: Grammar
    prompt: Prompt
    pending: int = -1
    guide: bool = False
    text: TextGrammar | None = None
    kept: dict[str, Remembered] = field(default_factory=dict)
    """What layers inside the decoder go on attending to, by the kind of media, and from which of its tokens on."""

    @property
    def memories(self) -> dict[str, Memory]:
        return {kind: one.memory for kind, one in self.kept.items()}


class Piece(NamedTuple):
    """`length` tokens of a row from `start` on, in one pass."""

    row: Row
    start: int
    length: int

    @property
    def ids(self) -> list[int]:
        return self.row.prompt.ids[self.start : self.start + self.length] or [self.row.pending]

    @property
    def positions(self) -> range:
        return range(self.start, self.start + self.length)


def remember(pieces: Sequence[Piece], edges: Tensor, features: Entering) -> None:
    """Give the row of each piece its share of what layers inside the decoder have attended to in the pass over them."""
    before = {id(memory) for piece in pieces for memory in piece.row.memories.values()}
    for kind, seen in features.memories.items():
        for one in seen:
            if id(one.memory) not in before:
                _share(kind, one, pieces, edges.tolist())


def _share(kind: str, new: Remembered, pieces: Sequence[Piece], edges: Sequence[int]) -> None:
    places = new.places.tolist()
    for piece, edge in zip(pieces, edges, strict=False):
        first, last = bisect_left(places, edge), bisect_left(places, edge + piece.length)
        if first == last:
            continue
        found = Remembered(new.memory.part(first, last), new.places[first:last] - (edge - piece.start))
        if (old := piece.row.kept.get(kind)) is not None:
            found = Remembered(old.memory.with_more(found.memory), torch.cat([old.places, found.places]))
        piece.row.kept[kind] = found
