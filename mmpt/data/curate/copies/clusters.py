"""Vectors on disk, their clusters, and which of a cluster are nearly the same."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np
import pydantic

from mmpt.config import Schema
from mmpt.data.curate.copies.buckets import Member, name_of, read_array
from mmpt.data.engine.run import RunConfig
from mmpt.data.engine.task import enter
from mmpt.data.engine.workers import run_all
from mmpt.data.extra import need
from mmpt.data.store import Store

VECTORS = "vectors"
SAMPLED = 256
"""Vectors for each cluster from which its centre is found."""
LEAST = 16
"""Distinct vectors for each cluster: of a small set every one would be alone in its own, and nothing compared."""
TOGETHER = 1 << 16
"""Vectors whose clusters one task goes through; a larger cluster stands alone."""
BLOCK = 2048
NONE = 0xFFFFFFFF
"""In place of a cluster: there is nothing to compare."""


class ClusterSettings(Schema):
    """Which vectors are the same, and which of the same stays."""

    similarity: float = pydantic.Field(default=0.95, gt=0, le=1)
    """Cosine from which on two are the same: 1 - ε of the paper."""
    clusters: int = pydantic.Field(default=100, ge=1)
    """Of k-means, at most one for 16 vectors; only within one is compared, so that the cost falls with their number."""
    keep: Literal["farthest", "first"] = "farthest"
    """Which of the same stays. farthest: the one least like the middle of its cluster, as in the paper; first: the first one."""
    seed: int = 0
    """Of k-means."""
    against: tuple[str, ...] = ()
    """Folders of embeddings that earlier runs have kept (OUT.vectors): what is in those sets goes from this one."""


@dataclass(frozen=True)
class Clustered:
    """What is the same for all clusters: shards of vectors with `dim` numbers, of which those from the number `own` on are
    decided, the folder where it stands which cluster each is in, and from which cosine on two are the same."""

    members: tuple[Member, ...]
    dim: int
    own: int
    place: str
    similarity: float
    farthest: bool
    folder: str


def vectors(member: Member, dim: int) -> np.ndarray:
    """float32 [documents, dim] of a shard, of length 1 or 0."""
    return read_array(member.location, name_of(member.shard, VECTORS, "rows"), "<f4").reshape(-1, dim)


def names(member: Member) -> list:
    """What each vector of a shard is of."""
    return json.loads(Store(member.location).read(name_of(member.shard, VECTORS, "ids")))


def dim_of(members: Sequence[Member]) -> int:
    """Numbers of a vector, as the first shard that has one says."""
    for member in members:
        store = Store(member.location)
        if count := len(names(member)):
            return store.size(name_of(member.shard, VECTORS, "rows")) // 4 // count
    return 1


def alike(
    config: ClusterSettings, members: Sequence[Member], count: int, own: int, dim: int, place: str, run: RunConfig
) -> list[tuple[int, int, float]]:
    """(Vector that goes, the one that it is like, their cosine) of the `count` vectors of `members`, by number, from `own` on."""
    given = Clustered(tuple(members), dim, own, place, config.similarity, config.keep == "farthest", os.getcwd())
    return copies(given, centres(members, count, dim, config.clusters, config.seed), run)


def centres(members: Sequence[Member], documents: int, dim: int, clusters: int, seed: int) -> np.ndarray:
    """float32 [clusters or fewer, dim], of length 1, by k-means of an even sample."""
    step = max(1, documents // (clusters * SAMPLED))
    sampled = [vectors(one, dim)[-one.first % step :: step] for one in members]
    sample = np.concatenate([np.zeros((0, dim), np.float32), *sampled])
    sample = sample[np.abs(sample).sum(axis=1) > 0]
    if not len(sample):
        return np.zeros((0, dim), np.float32)
    most = max(1, len(np.unique(sample, axis=0)) // LEAST)
    found = need("sklearn.cluster").KMeans(min(clusters, most), n_init=1, random_state=seed).fit(sample)
    return (found.cluster_centers_ / np.maximum(np.linalg.norm(found.cluster_centers_, axis=1, keepdims=True), 1e-12)).astype(
        np.float32
    )


def copies(given: Clustered, middle: np.ndarray, run: RunConfig) -> list[tuple[int, int, float]]:
    """(Document that goes, the one that it is like, their cosine), by document."""
    if not len(middle):
        return []
    sizes = np.zeros(len(middle), dtype=np.int64)
    for _, counts in run_all(partial(_assign, given, middle), list(enumerate(given.members)), run.processes, run.ray):
        sizes += counts
    edges, count = [0], 0
    for number, size in enumerate(sizes.tolist()):
        if count and count + size > TOGETHER:
            edges.append(number)
            count = 0
        count += size
    tasks = list(pairwise([*edges, len(middle)]))
    found = [one for _, some in run_all(partial(_among, given, middle), tasks, run.processes, run.ray) for one in some]
    return sorted(found)


def _assign(given: Clustered, middle: np.ndarray, numbered: tuple[int, Member]) -> np.ndarray:
    enter(given.folder)
    at, member = numbered
    own = vectors(member, given.dim)
    nearest = np.concatenate(
        [np.zeros(0, np.int64), *((own[start : start + BLOCK] @ middle.T).argmax(axis=1) for start in range(0, len(own), BLOCK))]
    )
    there = np.abs(own).sum(axis=1) > 0
    Store(given.place).write(f"{at:05d}.clusters", np.where(there, nearest, NONE).astype("<u4").tobytes())
    return np.bincount(nearest[there], minlength=len(middle))


def _among(given: Clustered, middle: np.ndarray, clusters: tuple[int, int]) -> list[tuple[int, int, float]]:
    enter(given.folder)
    numbers, kinds, points = [], [], []
    for at, member in enumerate(given.members):
        kind = read_array(given.place, f"{at:05d}.clusters", "<u4")
        rows = np.flatnonzero((kind >= clusters[0]) & (kind < clusters[1]))
        if len(rows):
            numbers.append(member.first + rows)
            kinds.append(kind[rows])
            points.append(vectors(member, given.dim)[rows])
    if not numbers:
        return []
    number, kind, point = np.concatenate(numbers), np.concatenate(kinds), np.concatenate(points)
    found = []
    for cluster in np.unique(kind).tolist():
        rows = np.flatnonzero(kind == cluster)
        found += cluster_copies(given, number[rows], point[rows], middle[cluster])
    return found


def cluster_copies(given: Clustered, number: np.ndarray, point: np.ndarray, middle: np.ndarray) -> list[tuple[int, int, float]]:
    """Of one cluster: each whose cosine with one before it is `similarity` or more goes.

    Those of earlier sets come first, then those farthest from the middle (Abbas et al. 2023, section 3), or in order of
    documents.
    """
    near = np.round(point @ middle, 5) if given.farthest else np.zeros(len(number))
    order = np.lexsort((number, near, number >= given.own))
    number, point = number[order], point[order]
    found = []
    for start in range(0, len(number), BLOCK):
        rows = point[start : start + BLOCK]
        cosine = rows @ point[: start + len(rows)].T
        cosine[np.arange(cosine.shape[1]) >= start + np.arange(len(rows))[:, None]] = -2  # itself and those behind it
        best = cosine.argmax(axis=1)
        for at in np.flatnonzero(cosine[np.arange(len(rows)), best] >= given.similarity).tolist():
            if number[start + at] >= given.own:
                found.append((int(number[start + at]), int(number[best[at]]), float(cosine[at, best[at]])))
    return found
