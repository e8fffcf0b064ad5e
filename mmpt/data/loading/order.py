"""The one canonical order of documents: a pure function of (documents in each shard, weights, seed, epoch, block).

An epoch is cut into blocks, so that nobody ever orders more than one block, however large the data. Block b of B holds the
b-th of B equal shares of every source, so each block is mixed as the whole; its documents come from a run of shards, which is
what a cache of remote shards needs; and they are shuffled together.
"""

import math
from functools import lru_cache

import numpy as np

from mmpt.errors import ConfigError

BLOCK_DOCUMENTS = 1 << 18
"""Documents in a block, about; part of the canonical order."""


def epoch_documents(shards: list[np.ndarray], weights: list[float]) -> list[int]:
    """Documents that each source gives to an epoch. `shards[s]` are the documents in each shard of source s.

    `weights[s]` says how many times source s is passed over: 1.0 once; 2.5 twice, and a half of each of its shards, drawn anew
    each epoch, a third time; 0 never. Raises `ConfigError` where the weights do not fit the sources.
    """
    if len(weights) != len(shards):
        raise ConfigError(f"mixture: {len(weights)} weights for {len(shards)} sources")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise ConfigError(f"mixture: weights are {list(weights)}, expected numbers of 0 or more")
    sizes = [int(np.sum(one)) for one in shards]
    return [math.floor(w) * size + round((w - math.floor(w)) * size) for size, w in zip(sizes, weights, strict=True)]


def block_count(documents: list[int], block_documents: int = BLOCK_DOCUMENTS) -> int:
    """Blocks of an epoch to which each source gives so many documents; at least one."""
    return max(1, math.ceil(sum(documents) / block_documents))


def block_order(shards: list[np.ndarray], documents: list[int], seed: int, epoch: int, block: int, blocks: int) -> np.ndarray:
    """The documents of a block in order: rows (source, shard, number in the shard), int64 [n, 3].

    `documents` is what `epoch_documents` gave. Raises `ConfigError` on a negative seed.
    """
    if seed < 0:
        raise ConfigError(f"seed is {seed}, expected 0 or more")
    parts = [np.zeros((0, 3), dtype=np.int64)]
    for source, (sizes, count) in enumerate(zip(shards, documents, strict=True)):
        # Edges by whole numbers: the blocks of an epoch hold each document once, however badly `blocks` divides `count`.
        first, last = count * block // blocks, count * (block + 1) // blocks
        parts += stretch(sizes, source, count, first, last, seed, epoch)
    rows = np.concatenate(parts)  # source by source and shard by shard so far
    return rows[permutation((seed, epoch, 0, block), len(rows))]


def stretch(sizes: np.ndarray, source: int, count: int, first: int, last: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Rows `first` … `last` of the `count` of a source's passes in an epoch: shards in random order, the documents of each in
    random order. Of a pass that is not whole, each shard gives its share."""
    found, size = [], int(np.sum(sizes))
    while first < last:
        # Which pass over the source, and where in it; the last pass of a weight such as 2.5 takes but `taken` of its documents.
        turn, start = divmod(first, size)
        taken = min(size, count - turn * size)
        stop = min(taken, start + last - first)
        order, ends = _shard_order(tuple(np.asarray(sizes).tolist()), taken, (seed, epoch, 1, source, turn))
        at = int(np.searchsorted(ends, start, side="right"))
        while start < stop:
            shard, end, begin = int(order[at]), int(ends[at]), int(ends[at - 1]) if at else 0
            # The whole shard is permuted even where a part is needed: a document's place must not depend on the block's edges.
            own = permutation((seed, epoch, 2, source, turn, shard), int(sizes[shard]))
            numbers = own[start - begin : min(stop, end) - begin]
            found.append(np.stack([np.full(len(numbers), source), np.full(len(numbers), shard), numbers], axis=1))
            first += len(numbers)
            start, at = end, at + 1
    return found


@lru_cache(maxsize=8)
def _shard_order(sizes: tuple[int, ...], taken: int, key: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(shards in random order, how many of `taken` documents come up to the end of each in that order).

    Each shard gives its share of them; what rounding leaves over falls where the random order has it.
    """
    order = permutation(key, len(sizes))
    ends = np.cumsum(np.array(sizes, dtype=np.int64)[order])
    if taken < ends[-1]:
        ends = np.array([end * taken // int(ends[-1]) for end in ends.tolist()])  # Python's integers do not overflow
    return order, ends


def permutation(key: tuple[int, ...], size: int) -> np.ndarray:
    """A random order of 0 … size − 1. Made of raw bits, which numpy never changes; `Generator.permutation` it may."""
    return np.argsort(np.random.PCG64(np.random.SeedSequence(key)).random_raw(size), kind="stable")
