"""How prompts are read in pieces beside the sequences that are being written (chunked prefill, Agrawal et al. 2023, "Sarathi",
arXiv:2308.16369)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mmpt.modality import Medium


@dataclass(frozen=True)
class Prompt:
    """`ids`, and of the media that enter as features the (kind, places of the slots, inputs of the encoder view by view) of
    each. `end`: the id that ends the answer, None: `<|end|>`. `client`: whose it is; what is kept of one's sequences is of use
    to the same alone."""

    ids: list[int]
    media: tuple[tuple[Medium, np.ndarray, Tensor], ...] = ()
    end: int | None = None
    client: str = ""

    def spans(self) -> Iterator[tuple[int, int]]:
        """Where the slots of each medium begin and end."""
        for _, places, _ in self.media:
            yield int(places[0]), int(places[-1]) + 1

    def whole(self, start: int, end: int) -> int:
        """Where a piece from `start` may end, at `end` or near it: no medium is cut, since its encoder runs once."""
        for first, last in self.spans():
            if first < end < last:
                return first if first > start else last
        return end


def dealt(wanted: Sequence[int], most: int) -> list[int]:
    """`most` tokens of a pass for prompts of which so many are `wanted`, the oldest first: it gets half, so that it comes to its
    end; what is left goes to those that want least, so that no short one waits for a long one."""
    found = [0] * len(wanted)

    def give(place: int, limit: int) -> None:
        nonlocal most
        more = min(wanted[place] - found[place], limit, most)
        found[place] += more
        most -= more

    if wanted:
        give(0, -(-most // 2))
    for place in sorted(range(len(wanted)), key=wanted.__getitem__):
        give(place, most)
    return found
