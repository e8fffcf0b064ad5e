"""Phases of the mixture: at a given step the weights of the sources change, and each source goes on where it stood.

Every source is one endless sequence of documents, pass after pass, each in an order of its own (see `sequence`); a phase only
says how many of them its epochs take. So a document comes again when all others of its source have come, whatever the phases are.
At a border up to a window of packing (`mmpt.data.loading.loader.WINDOW` documents) may change places with those that come next,
since packs keep the order but for their top-ups.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mmpt.data.loading.order import BLOCK_DOCUMENTS, permutation, stretch


class Phase(NamedTuple):
    """`until`: the step behind which the next phase begins (the last one has no end); `weights` as of a mixture."""

    until: int
    weights: tuple[float, ...]


def sequence(
    sizes: np.ndarray, source: int, first: int, last: int, seed: int, block_documents: int = BLOCK_DOCUMENTS
) -> np.ndarray:
    """Documents `first` … `last` of the endless sequence of a source of shards of `sizes` documents: rows (source, shard, number
    in the shard), int64 [n, 3]. Each pass holds every document once; they are shuffled within stretches of `block_documents`."""
    found, size = [np.zeros((0, 3), dtype=np.int64)], int(np.sum(sizes))
    while first < last:
        turn, start = divmod(first, size)
        blocks = -(-size // block_documents)
        block = ((start + 1) * blocks - 1) // size
        low, high = size * block // blocks, size * (block + 1) // blocks
        rows = _shuffled(tuple(np.asarray(sizes).tolist()), source, turn, low, high, block, seed)
        found.append(rows[start - low : min(high, start + last - first) - low])
        first += len(found[-1])
    return np.concatenate(found)


def phase_order(
    shards: list[np.ndarray],
    documents: list[int],
    taken: Sequence[int],
    place: tuple[int, int, int, int],
    blocks: int,
    block_documents: int = BLOCK_DOCUMENTS,
) -> np.ndarray:
    """The documents of a block in order, as `mmpt.data.loading.order.block_order` has them. `place`: (seed, phase, epoch of the
    phase, block of `blocks` of the epoch); `documents`: how many each source gives to such an epoch, `taken`: how many it had
    given when the phase began."""
    seed, phase, epoch, block = place
    parts = []
    for source, (sizes, count, before) in enumerate(zip(shards, documents, taken, strict=True)):
        start = before + epoch * count
        first, last = start + count * block // blocks, start + count * (block + 1) // blocks
        parts.append(sequence(sizes, source, first, last, seed, block_documents))
    rows = np.concatenate(parts)
    # Which source comes when is drawn; of each source, its documents come in their order.
    drawn = rows[permutation((seed, epoch, 3, phase, block), len(rows)), 0]
    found = np.empty_like(rows)
    found[np.argsort(drawn, kind="stable")] = rows
    return found


@lru_cache(maxsize=16)
def _shuffled(sizes: tuple[int, ...], source: int, turn: int, low: int, high: int, block: int, seed: int) -> np.ndarray:
    """Documents `low` … `high` of a pass over a source, shuffled."""
    size = sum(sizes)
    parts = stretch(np.array(sizes), source, (turn + 1) * size, turn * size + low, turn * size + high, seed, 0)
    rows = np.concatenate(parts)
    return rows[permutation((seed, turn, 4, source, block), len(rows))]
