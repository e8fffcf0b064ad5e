"""Pairs of documents, pictures and recordings that are alike, found over all shards on any number of processes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from mmpt.data.curate.copies.buckets import Member, bucket_pairs, name_of, ranges, read_array, unique_pairs
from mmpt.data.curate.copies.minhash import jaccard, mix
from mmpt.data.curate.copies.signatures import DOCUMENTS, PICTURE, ROW, SOUND_ROW, SOUNDS, Signature, read_signature
from mmpt.data.curate.copies.sounds import KEYS, sound_distance
from mmpt.data.engine.run import RunConfig
from mmpt.data.engine.task import enter
from mmpt.data.engine.workers import run_all
from mmpt.data.store import Store

CHUNK = 10_000
"""Pairs that are compared at once."""
AT_ONCE = 32
"""Pieces of bands whose pairs are held before they are made one."""
EQUAL = 2.0
"""In place of a similarity: the documents are equal."""
ROWS_AT_ONCE = 1 << 24
"""Pairs of a picture and a document that are counted at once."""


@dataclass(frozen=True)
class Compared:
    """What is the same for all pairs: the shards of all sets in order, where the groups of media lie (None: media are not
    compared), how far pictures may differ, and whether documents of media alike are alike `whatever_text`."""

    members: tuple[Member, ...]
    groups: str | None
    distance: int
    whatever_text: bool
    folder: str

    def similarity(self, one: int, other: int) -> float:
        """`EQUAL`, or the Jaccard similarity of the n-grams of two documents, 0 where their media are not alike."""
        return self.compared(self.signature(one), self.signature(other))

    def compared(self, one: Signature, other: Signature) -> float:
        """As `similarity`."""
        if (one.row["content"] == other.row["content"]).all():
            return EQUAL
        if self.groups and not media_alike(one, other, self.distance):
            return 0.0
        return 1.0 if self.whatever_text else jaccard(one.text, other.text)

    def signature(self, number: int) -> Signature:
        """That of a document, by its number over all shards."""
        at = _place(self.members, number)
        return read_signature(self.members[at], number - self.members[at].first, (self.groups, at) if self.groups else None)


def document_pairs(compared: Compared, keys: int, wanted: Sequence[int], documents: int, run: RunConfig) -> np.ndarray:
    """Pairs int64 [pairs, 2] of documents that share one of the `wanted` keys of `keys`."""
    return all_pairs(compared.members, DOCUMENTS, keys, wanted, documents, compared.groups, run)


def similarities(compared: Compared, pairs: np.ndarray, run: RunConfig) -> np.ndarray:
    """float32 [pairs]: `Compared.similarity` of each."""
    chunks = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
    found: dict[int, np.ndarray] = {}
    for (number, _), values in run_all(partial(_similar, compared), list(enumerate(chunks)), run.processes, run.ray):
        found[number] = values
    return np.concatenate([np.zeros(0, np.float32), *(found[number] for number in range(len(chunks)))])


def media_alike(one: Signature, other: Signature, distance: int) -> bool:
    """Whether the media are of equal groups, and picture by picture no further apart than `distance` bits."""
    if one.group != other.group or len(one.pictures) != len(other.pictures):
        return False
    return bool((np.bitwise_count(one.pictures ^ other.pictures) <= distance).all())


def _similar(compared: Compared, numbered: tuple[int, np.ndarray]) -> np.ndarray:
    enter(compared.folder)
    signature = lru_cache(maxsize=4096)(compared.signature)
    return np.array([compared.compared(signature(a), signature(b)) for a, b in numbered[1].tolist()], dtype=np.float32)


def all_pairs(
    members: Sequence[Member], table: str, keys: int, wanted: Sequence[int], items: int, groups: str | None, run: RunConfig
) -> np.ndarray:
    """Pairs int64 [pairs, 2] of items of a table that share one of the `wanted` keys of `keys`, see `bucket_pairs`."""
    work = partial(_bucket, tuple(members), table, keys, groups, os.getcwd())
    tasks = [(band, bins) for band in wanted for bins in ranges(items)]
    found = np.zeros((0, 2), dtype=np.int64)
    for start in range(0, len(tasks), AT_ONCE):  # pairs that several bands found are one before more come
        parts = [pairs for _, pairs in run_all(work, tasks[start : start + AT_ONCE], run.processes, run.ray)]
        found = unique_pairs(np.concatenate([found, *parts]))
    return found


def _bucket(
    members: tuple[Member, ...], table: str, keys: int, groups: str | None, folder: str, task: tuple[int, tuple[int, int]]
) -> np.ndarray:
    enter(folder)
    return bucket_pairs(members, table, keys, *task, groups)


class Media(NamedTuple):
    """The pictures or recordings of all shards, in order: `document` and `place` int64 [n], what each is: `kind` int64 [n], and
    which kinds are alike: `near` int64 [pairs, 2]; kinds of one `group` int64 [kinds] are linked by such pairs."""

    document: np.ndarray
    place: np.ndarray
    kind: np.ndarray
    near: np.ndarray
    group: np.ndarray


def pictures(members: Sequence[Member], distance: int) -> Media:
    """Those of all shards; a kind is a perceptual hash."""
    rows = [read_array(one.location, name_of(one.shard, "pictures", "rows"), PICTURE) for one in members]
    document = np.concatenate([np.zeros(0, np.int64), *(own["document"].astype(np.int64) + one.first
                               for one, own in zip(members, rows, strict=True))])  # fmt: skip
    whole = np.concatenate([np.zeros(0, PICTURE), *rows])
    hashes, kind = np.unique(whole["hash"], return_inverse=True)
    near = near_pairs(hashes, distance)
    return Media(document, whole["place"].astype(np.int64), kind.astype(np.int64), near, _linked(len(hashes), near))


def sounds(compared: Compared, distance: float, run: RunConfig) -> Media:
    """The recordings of all shards; each is a kind of its own."""
    rows, members, first = [], [], 0
    for one in compared.members:
        rows.append(read_array(one.location, name_of(one.shard, SOUNDS, "rows"), SOUND_ROW))
        members.append(Member(one.location, one.shard, first))
        first += len(rows[-1])
    own = Compared(tuple(members), None, 0, False, compared.folder)
    pairs = all_pairs(own.members, SOUNDS, KEYS, range(KEYS), first, None, run)
    chunks = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
    alike = [chunk[keep] for (_, chunk), keep in run_all(partial(_sounds_alike, own, distance), list(enumerate(chunks)),
                                                         run.processes, run.ray)]  # fmt: skip
    near = unique_pairs(np.concatenate([np.zeros((0, 2), np.int64), *alike]))
    document = [each["document"].astype(np.int64) + one.first for one, each in zip(compared.members, rows, strict=True)]
    whole = np.concatenate([np.zeros(0, SOUND_ROW), *rows])
    kind = np.arange(first, dtype=np.int64)
    return Media(np.concatenate([kind[:0], *document]), whole["place"].astype(np.int64), kind, near, _linked(first, near))


def _sounds_alike(compared: Compared, distance: float, numbered: tuple[int, np.ndarray]) -> np.ndarray:
    enter(compared.folder)
    prints = lru_cache(maxsize=512)(partial(_prints, compared.members))
    return np.array([sound_distance(prints(a), prints(b)) <= distance for a, b in numbered[1].tolist()], dtype=bool)


def _prints(members: tuple[Member, ...], number: int) -> np.ndarray:
    one = members[_place(members, number)]
    at = SOUND_ROW.itemsize * (number - one.first)
    row = read_array(one.location, name_of(one.shard, SOUNDS, "rows"), SOUND_ROW, at, at + SOUND_ROW.itemsize)[0]
    start = int(row["heap"])
    return read_array(one.location, name_of(one.shard, SOUNDS, "heap"), "<u4", start, start + 4 * int(row["prints"]))


def write_groups(store: Store, members: Sequence[Member], media: Sequence[Media], documents: int) -> np.ndarray:
    """Write for each document the group of its media: equal where each picture and recording is of the group of the one in the
    same place of the other, and what is compared by its bytes is equal; 0 of a document without media. All are returned,
    uint64."""
    document = np.concatenate([one.document for one in media])
    place = np.concatenate([one.place for one in media])
    group = np.concatenate([len(media) * one.group[one.kind] + number for number, one in enumerate(media)]).astype(np.uint64)
    order = np.lexsort((place, document))
    document, group = document[order], mix(group[order] + np.uint64(1))
    groups = np.zeros(documents, dtype=np.uint64)
    if len(document):
        starts = np.flatnonzero(np.diff(document, prepend=-1))
        rank = np.arange(len(document)) - np.repeat(starts, np.diff(np.append(starts, len(document))))
        with np.errstate(over="ignore"):  # each rank has a factor of its own, so that the order counts
            groups[document[starts]] = np.add.reduceat(
                group * (mix(rank.astype(np.uint64) + np.uint64(1)) | np.uint64(1)), starts
            )
    for at, one in enumerate(members):
        rows = read_array(one.location, name_of(one.shard, DOCUMENTS, "rows"), ROW)
        own = groups[one.first : one.first + len(rows)]
        own[:] = np.where(rows["media"] > 0, mix(own ^ mix(rows["others"] + np.uint64(1))) | np.uint64(1), 0)
        store.write(f"{at:05d}.groups", own.astype("<u8").tobytes())
    return groups


def _place(members: Sequence[Member], number: int) -> int:
    low, high = 0, len(members)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if members[middle].first <= number else (low, middle)
    return low


def _linked(count: int, pairs: np.ndarray) -> np.ndarray:
    """Number int64 [count] of the group of each, those of a pair being in one."""
    from scipy.sparse import coo_array  # scipy takes a second that `--help` should not
    from scipy.sparse.csgraph import connected_components

    if not count:
        return np.zeros(0, dtype=np.int64)
    graph: Any = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def copies_of(media: Media, stays: np.ndarray) -> np.ndarray:
    """int64 [kinds]: in how many of the documents that stay (bool [documents]) a picture of a kind is, or one near to it."""
    from scipy.sparse import coo_array, csr_array

    kinds = len(media.group)
    keep = stays[media.document]
    owners = unique_pairs(np.stack([media.kind[keep], media.document[keep]], axis=1))
    both = np.concatenate([media.near, media.near[:, ::-1], np.repeat(np.arange(kinds)[:, None], 2, axis=1)])
    near: Any = coo_array((np.ones(len(both), np.int64), (both[:, 0], both[:, 1])), shape=(kinds, kinds)).tocsr()
    # A document with one kind of a group counts once for each kind near to that; only of one with several is the union taken.
    together = media.group[owners[:, 0]] * len(stays) + owners[:, 1]
    _, which, times = np.unique(together, return_inverse=True, return_counts=True)
    alone = times[which] == 1
    counts = near @ np.bincount(owners[alone, 0], minlength=kinds)
    several = owners[~alone]
    if len(several):
        columns = np.unique(several[:, 1], return_inverse=True)[1]
        table: Any = csr_array((np.ones(len(several), np.int64), (several[:, 0], columns)), shape=(kinds, int(columns.max()) + 1))
        sizes = np.diff(table.indptr)
        for start, end in _cuts(np.cumsum(near @ sizes)):
            counts[start:end] += np.diff((near[start:end] @ table).indptr)
    return counts


def _cuts(sizes: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of rows with about `ROWS_AT_ONCE` entries each, of the running sum of their sizes."""
    edges = np.searchsorted(sizes, np.arange(0, sizes[-1] + ROWS_AT_ONCE, ROWS_AT_ONCE))
    return list(pairwise(np.unique([0, *edges.tolist(), len(sizes)]).tolist()))


def near_pairs(hashes: np.ndarray, distance: int) -> np.ndarray:
    """Pairs int64 [pairs, 2] of places in `hashes` uint64 [n] (all different) that differ in at most `distance` bits.

    Of `distance` + 1 bands of bits, one is equal in such a pair (the pigeonhole principle), so only pairs that share a band are
    compared.
    """
    if not len(hashes):
        return np.zeros((0, 2), dtype=np.int64)
    edges = np.linspace(0, 64, distance + 2).round().astype(int)
    found = [np.zeros((0, 2), dtype=np.int64)]
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        # Sorted by this band, hashes that share it stand together: only within such a run are they compared.
        band = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order], prepend=band[order][:1] ^ np.uint64(1)))
        for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
            members = order[start:end]
            for at in range(len(members) - 1):
                others = members[at + 1 :]
                near = others[np.bitwise_count(hashes[others] ^ hashes[members[at]]) <= distance]
                if len(near):
                    found.append(np.stack([np.full(len(near), members[at]), near], axis=1))
    pairs = np.sort(np.concatenate(found), axis=1)
    pairs = unique_pairs(pairs[:, ::-1])[:, ::-1]  # a pair that shares several bands was found in each
    return np.ascontiguousarray(pairs)
