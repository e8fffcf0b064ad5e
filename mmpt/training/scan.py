"""One pass over document shards that finds what a tokenizer can learn from, and notes where it lies in 26 bytes an example.

Each part is decoded once here and dropped again: only so is it known before the first step which examples there are and how long
they are, on which the order of all steps depends. The ranks share the pass and each decodes in threads. What was found is kept in
the run's folder, so that a run that goes on does not look again.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import safetensors
import safetensors.numpy
import torch

from mmpt.data.loading.prefetch import prefetch
from mmpt.data.lost import LOST_FILE, Lost, from_lines, to_lines
from mmpt.data.shards.index import id_hash
from mmpt.data.shards.manifest import COLUMNS
from mmpt.data.shards.read import DocumentShards
from mmpt.document import Part
from mmpt.errors import DataError
from mmpt.modality import Medium, modality_of
from mmpt.storage import write_bytes
from mmpt.training.distributed import World

FORMAT = "mmpt-examples/1"
FILE = "examples.safetensors"
"""Name of what was found, in the run's folder."""
ROW = np.dtype(
    [("source", "<u2"), ("shard", "<u4"), ("document", "<u4"), ("place", "<u4"), ("size", "<u4"), ("name", "<u8")],
)
"""An example: set of shards, shard, document and part in which it lies; its `size` as `Kind.size` has it; `id_hash` of its id."""
TOGETHER = 4096
"""Documents that each rank looks at before all tell each other what they found."""
STALL = 300.0
"""Seconds for one document after which the storage is taken to be stalled."""
_DOCUMENT = np.dtype([("source", "<u2"), ("shard", "<u4"), ("document", "<u4"), ("parts", "<u4")])
_OVERHEAD = 256  # bytes that Python's objects about an example take, roughly
V = TypeVar("V")


@dataclass(frozen=True)
class Kind(Generic[V]):
    """What examples are made of: parts of the modality `part`, called a `name` in messages.

    `wanted` tells whether a part counts at all; `make` gives the example of one, or raises `DataError` with the reason why it is
    left out; `size` is what batches are planned by (less than 2 ** 32) and `nbytes` the memory that an example takes. `settings`
    are JSON values: all that the outcome depends on beside the data, or None where nobody can tell: then nothing is taken from an
    earlier run. `needs` is what `wanted` asks for, in words.
    """

    part: Medium
    name: str
    wanted: Callable[[Any], bool]
    make: Callable[[Any], V]
    size: Callable[[V], int]
    nbytes: Callable[[V], int]
    settings: dict | None = field(default_factory=dict)
    needs: str = ""


class Kept(Generic[V]):
    """Decoded examples by their number, until they take `limit` bytes; from then on none is added and none given up.

    An epoch shows every example once, in an order of its own. Giving up the least recently used would then give up much that is
    asked for soon after: keeping the same ones is never worse, and their share of the data is the share of hits.
    """

    def __init__(self, limit: int, nbytes: Callable[[V], int]) -> None:
        self._left, self._nbytes = limit, nbytes
        self._values: dict[int, V] = {}
        self._lock = Lock()  # several threads make batches

    def get(self, number: int) -> V | None:
        """The example, if it is kept."""
        return self._values.get(number)

    def put(self, number: int, value: V) -> None:
        """Keep an example, if there is room."""
        if number not in self._values and self.claim(value):
            self._values[number] = value

    def claim(self, value: V) -> bool:
        """Whether there is room for an example; then it is taken, and `settle` fills it once the example's number is known."""
        size = self._nbytes(value) + _OVERHEAD
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def settle(self, number: int, value: V) -> None:
        """Keep an example for which room was claimed."""
        self._values[number] = value


class Found(NamedTuple):
    """`rows` [examples] of `ROW`, in the order of the data; `lost`: what was left out, as lines of lost.jsonl."""

    rows: np.ndarray
    lost: bytes


def scan(kind: Kind[V], shards: Sequence[DocumentShards], limit: int | None, run: Path, world: World, kept: Kept[V]) -> Found:
    """What there is to learn from among the first `limit` parts, the same on all ranks; all call it.

    Read from `run` where it was found before; else looked for, and written there. Examples that this rank looked at are put in
    `kept`. What is left out is counted on standard error and listed in `run`/lost.jsonl. Raises `DataError` where a document is
    damaged.
    """
    fingerprint = _fingerprint(kind, shards, limit)
    found = _read(run / FILE, fingerprint) if fingerprint else None
    # The folder may be on a disk that not all ranks see: then none takes what it has, since all look together or none does.
    if int(_sum(np.array([found is not None], np.uint8), world)[0]) < world.size or found is None:
        found = _look(kind, shards, limit, world, kept)
        if world.rank == 0 and fingerprint:
            _write(run / FILE, fingerprint, found)
    if world.rank == 0:
        _tell(kind, found, run)
    return found


def threads() -> int:
    """Threads that read and decode beside a rank's own work: its share of the cores less one, 1 … 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1))


def _documents(part: Medium, shards: Sequence[DocumentShards], limit: int | None) -> np.ndarray:
    """[documents] of `_DOCUMENT`: those that hold one of the first `limit` such parts, by the indices alone."""
    column, left, found = COLUMNS["documents"].index(part), sys.maxsize if limit is None else limit, []
    for source, one in enumerate(shards):
        for shard in range(len(one.shard_documents)):
            if not left:
                break
            counts = one.index(shard).counts[:, column].astype(np.int64)
            counts = np.minimum(counts, np.maximum(0, left - (np.cumsum(counts) - counts)))
            numbers = np.flatnonzero(counts)
            rows = np.zeros(len(numbers), _DOCUMENT)
            rows["source"], rows["shard"], rows["document"], rows["parts"] = source, shard, numbers, counts[numbers]
            found.append(rows)
            left -= int(counts.sum())
    return np.concatenate([np.zeros(0, _DOCUMENT), *found])


class _Seen(NamedTuple):
    rows: list[tuple]
    lost: list[Lost]
    examples: list


def _look(kind: Kind[V], shards: Sequence[DocumentShards], limit: int | None, world: World, kept: Kept[V]) -> Found:
    documents, rows, lost, count = _documents(kind.part, shards, limit), [], [], 0
    told_at = time.monotonic()

    def look(document: np.void) -> _Seen:
        return _look_at(kind, shards, document, kept)

    def describe(document: np.void) -> str:
        return shards[document["source"]].shard_path(int(document["shard"]))

    # In turns, so that no rank waits for another longer than the process group allows, however long the whole pass takes.
    for start in range(0, len(documents), TOGETHER * world.size):
        turn = documents[start : start + TOGETHER * world.size]
        own = np.array_split(turn, world.size)[world.rank]
        seen = [one for _, one in prefetch(iter(own), look, threads(), STALL, describe)]
        found, before = _gathered(np.array([row for one in seen for row in one.rows], ROW), world)
        for number, example in enumerate(example for one in seen for example in one.examples):
            if example is not None:
                kept.settle(count + before + number, example)
        told = to_lines(entry for one in seen for entry in one.lost).decode()
        lost += world.gather(told) if world.size > 1 else [told]
        rows.append(found)
        count += len(found)
        if world.rank == 0 and time.monotonic() - told_at > 30:
            told_at = time.monotonic()
            done = min(start + len(turn), len(documents))
            print(f"looking for {kind.name}s: {done} of {len(documents)} documents", file=sys.stderr, flush=True)
    return Found(np.concatenate([np.zeros(0, ROW), *rows]), "".join(lost).encode())


def _look_at(kind: Kind[V], shards: Sequence[DocumentShards], where: np.void, kept: Kept[V]) -> _Seen:
    source, shard, number = (int(where[name]) for name in ("source", "shard", "document"))
    document, seen = shards[source].read(shard, number), _Seen([], [], [])
    places = [place for place, part in enumerate(document.parts) if modality_of(part) == kind.part]
    for place in places[: int(where["parts"])]:
        name, part = f"{document.id}/{place}", document.parts[place]
        if not kind.wanted(part):
            continue
        try:
            example = kind.make(part)
        except DataError as problem:
            seen.lost.append(Lost(name, str(problem), whole=False, part=kind.part))
            continue
        seen.rows.append((source, shard, number, place, kind.size(example), id_hash(name)))
        # What finds no room is dropped at once, not at the end of the turn: memory must not grow with the turn.
        seen.examples.append(example if kept.claim(example) else None)
    return seen


def _gathered(own: np.ndarray, world: World) -> tuple[np.ndarray, int]:
    """The rows of all ranks in turn, and how many come before this rank's own."""
    if world.size == 1:
        return own, 0
    counts = np.zeros(world.size, np.int64)
    counts[world.rank] = len(own)
    edges = np.concatenate([[0], np.cumsum(_sum(counts, world))])
    first = int(edges[world.rank])
    together = np.zeros(int(edges[-1]), ROW)
    together[first : first + len(own)] = own
    # Where one rank has bytes the others have zeros, so the sum is all of them: no other collective is asked of `World`.
    return _sum(together.view(np.uint8), world).view(ROW), first


def _sum(values: np.ndarray, world: World) -> np.ndarray:
    if world.size == 1:
        return values
    return world.sum(torch.from_numpy(values).to(world.device)).cpu().numpy()


def part_at(shards: Sequence[DocumentShards], row: np.void) -> tuple[str, Part]:
    """(Name, part) of the example at `row` of `ROW`. Raises `DataError` where it cannot be read."""
    document, part = shards[row["source"]].part(int(row["shard"]), int(row["document"]), int(row["place"]))
    return f"{document}/{row['place']}", part


def _fingerprint(kind: Kind, shards: Sequence[DocumentShards], limit: int | None) -> str:
    if kind.settings is None:
        return ""
    data = [[shard.sha256 for shard in one.manifest.shards] for one in shards]
    told = {"format": FORMAT, "part": kind.part, "name": kind.name, "settings": kind.settings, "limit": limit, "data": data}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _read(path: Path, fingerprint: str) -> Found | None:
    """What `path` holds; None where there is no such file, or it is of other data or settings, or damaged."""
    try:
        with safetensors.safe_open(path, "numpy") as file:
            if (file.metadata() or {}).get("fingerprint") != fingerprint:
                return None
            return Found(file.get_tensor("rows").view(ROW).reshape(-1), file.get_tensor("lost").tobytes())
    except (OSError, ValueError, safetensors.SafetensorError):
        return None


def _write(path: Path, fingerprint: str, found: Found) -> None:
    rows = found.rows.view(np.uint8).reshape(len(found.rows), ROW.itemsize)
    arrays = {"rows": rows, "lost": np.frombuffer(found.lost, np.uint8)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, safetensors.numpy.save(arrays, metadata={"fingerprint": fingerprint}))


def _tell(kind: Kind, found: Found, run: Path) -> None:
    file = run / LOST_FILE
    if not found.lost:
        file.unlink(missing_ok=True)  # of data that were then others
        return
    run.mkdir(parents=True, exist_ok=True)
    write_bytes(file, found.lost)
    lost = from_lines(found.lost)
    share = f"{len(lost)} of {len(lost) + len(found.rows)} {kind.name}s are left out"
    print(f"{share} (see {file}), the first: {lost[0].item}: {lost[0].reason}", file=sys.stderr, flush=True)
