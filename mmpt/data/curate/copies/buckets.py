"""Buckets on disk: which items share a key, found by key ranges of a size that fits memory, whatever their number.

A table has three files for each shard, `NNNNN.TABLE.keys`, `.rows` and `.heap`: the keys of its items sorted within each band, a
record of fixed size for each item, and what is not of one size. All are raw little-endian arrays of which ranges are read, from a
path or URL.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from mmpt.data.curate.copies.minhash import mix
from mmpt.data.store import Store
from mmpt.errors import DataError

BINS = 256
"""Ranges of keys, by their upper 8 bits, at which a band can be cut."""
PART_ITEMS = 1 << 22
"""Items of a band that are sorted at once: about 200 bytes of memory for each."""


def name_of(shard: int, table: str, what: str) -> str:
    """Name of a file of a table."""
    return f"{shard:05d}.{table}.{what}"


def write_keys(store: Store, shard: int, table: str, keys: np.ndarray) -> None:
    """Write `keys` uint64 [items, bands]; a key of 0 is in no bucket."""
    bounds, values, numbers, first = [], [], [], 0
    for column in keys.T:
        order = np.argsort(column, kind="stable")
        order = order[np.searchsorted(column[order], np.uint64(1)) :]
        tops = (column[order] >> np.uint64(56)).astype(np.int64)
        bounds.append(first + np.searchsorted(tops, np.arange(BINS + 1)))
        values.append(column[order])
        numbers.append(order.astype("<u4"))
        first += len(order)
    parts = [np.array(bounds, dtype="<i8"), *(one.astype("<u8") for one in values), *numbers]
    store.write(name_of(shard, table, "keys"), b"".join(one.tobytes() for one in parts))


@dataclass(frozen=True)
class Member:
    """A shard of signatures: where its files lie, its number there, and the number of its first item over all shards."""

    location: str
    shard: int
    first: int


def bucket_pairs(
    members: Sequence[Member], table: str, bands: int, band: int, bins: tuple[int, int], groups: str | None
) -> np.ndarray:
    """Pairs int64 [pairs, 2], the lower number first, of items that share a key of a band in a range of bins.

    Of a bucket each item is paired with the first and with the one before it, so that pairs are linear in items however many are
    alike. Items of different groups (files of `groups`, `NNNNN.groups` of each member) are in different buckets.
    """
    keys, numbers = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for at, member in enumerate(members):
        key, number = _read_keys(member, table, bands, band, bins)
        if groups and len(key):
            key = mix(key ^ read_array(groups, f"{at:05d}.groups", "<u8")[number])
        keys.append(key)
        numbers.append(number + member.first)
    return shared_key(np.concatenate(keys), np.concatenate(numbers))


def shared_key(key: np.ndarray, number: np.ndarray) -> np.ndarray:
    """As `bucket_pairs`, of items of `number` int64 [n] with `key` uint64 [n]."""
    order = np.lexsort((number, key))
    key, number = key[order], number[order]
    fresh = np.concatenate([np.ones(min(1, len(key)), dtype=bool), key[1:] != key[:-1]])
    first = number[np.flatnonzero(fresh)[np.cumsum(fresh) - 1]]  # of the bucket of each
    again = np.flatnonzero(~fresh)
    pairs = np.concatenate([np.stack([first[again], number[again]], 1), np.stack([number[again - 1], number[again]], 1)])
    return unique_pairs(pairs)


def unique_pairs(pairs: np.ndarray) -> np.ndarray:
    """Each once, by the later number, then the earlier one."""
    order = np.lexsort((pairs[:, 0], pairs[:, 1]))
    pairs = pairs[order]
    return pairs[np.concatenate([[True], (pairs[1:] != pairs[:-1]).any(axis=1)])] if len(pairs) else pairs


def ranges(items: int) -> list[tuple[int, int]]:
    """The bins of each piece of a band of so many items."""
    edges = np.linspace(0, BINS, min(BINS, max(1, -(-items // PART_ITEMS))) + 1).astype(int).tolist()
    return list(pairwise(edges))


def key_count(location: str, shard: int, table: str, bands: int) -> int:
    """How many keys other than 0 there are of a shard."""
    at = 8 * (bands * (BINS + 1) - 1)
    return int(read_array(location, name_of(shard, table, "keys"), "<i8", at, at + 8)[0])


def _read_keys(member: Member, table: str, bands: int, band: int, bins: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    name, width = name_of(member.shard, table, "keys"), 8 * (BINS + 1)
    head = read_array(member.location, name, "<i8", 0, bands * width).reshape(bands, BINS + 1)
    start, end, total = int(head[band, bins[0]]), int(head[band, bins[1]]), int(head[-1, -1])
    after = bands * width
    key = read_array(member.location, name, "<u8", after + 8 * start, after + 8 * end)
    number = read_array(member.location, name, "<u4", after + 8 * total + 4 * start, after + 8 * total + 4 * end)
    return key, number.astype(np.int64)


def read_array(location: str, name: str, dtype: np.typing.DTypeLike, start: int = 0, end: int | None = None) -> np.ndarray:
    """The bytes from `start` to `end` of a file as an array."""
    return np.frombuffer(read_span(location, name, start, end), dtype=dtype)


def read_span(location: str, name: str, start: int, end: int | None) -> bytes:
    """As `Store.read_range`, with less around it on this machine: a pair costs a few reads of some hundred bytes."""
    store = _store(location)
    if end is not None and end <= start:  # which no server knows as a range
        return b""
    if not store.is_local:
        return store.read(name) if end is None else store.read_range(name, start, end)
    try:
        with open(Path(store.location) / name, "rb", buffering=0) as file:
            file.seek(start)
            return file.read(-1 if end is None else end - start)
    except OSError as problem:
        raise DataError(f"{store.path(name)}: {problem.strerror or problem}") from None


@lru_cache(maxsize=16)
def _store(location: str) -> Store:
    return Store(location)
