"""The last step of a run: ids met twice, the list of what was lost, and the manifest, written last."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmpt.config import Schema
from mmpt.data.engine.task import TaskRecord, lost_name
from mmpt.data.lost import BAD_DATA, LOST_FILE, from_lines
from mmpt.data.shards.index import Index
from mmpt.data.shards.manifest import COLUMNS, COUNTED, FORMAT, FileEntry, Kind, ShardEntry, check_index, index_name
from mmpt.data.shards.sample import decode_json
from mmpt.data.store import Store
from mmpt.storage import MANIFEST
from mmpt.vocabulary import Vocabulary


class Plan(Schema):
    """What a run is to do: one that was stopped goes on only under an equal plan."""

    built: dict[str, Any]
    """How the set is made: JSON values."""
    kind: Kind
    """What the shards hold."""
    tasks: int
    """How many tasks there are."""
    units: str
    """Hash of the units of all tasks."""
    vocabulary: str | None = None
    """Fingerprint of the vocabulary of token sequences."""

    @property
    def content(self) -> dict[str, Any]:
        """As JSON has it."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @property
    def fingerprint(self) -> str:
        """What the finished set's manifest keeps of it."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()


def repeated_ids(store: Store, records: dict[int, TaskRecord]) -> dict[int, frozenset[str]]:
    """Task → ids in its shards that an earlier task has too. The 64-bit hashes in the indices find them, a look confirms."""
    places = [(number, shard) for number in sorted(records) for shard in records[number].shards]
    indices = [_index(store, records[number].files, shard) for number, shard in places]
    hashes = np.concatenate([np.zeros(0, np.uint64), *(index.ids for index in indices)])
    owners = np.repeat(np.arange(len(places)), [len(index) for index in indices])
    within = np.concatenate([np.zeros(0, np.int64), *(np.arange(len(index)) for index in indices)])
    order = np.argsort(hashes, kind="stable")  # stable, so of equal hashes the earliest document comes first
    same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1]) + 1
    found: dict[int, set[str]] = defaultdict(set)
    for at in same.tolist():
        first = at - 1  # a run of equal hashes may be longer than two
        while first > 0 and hashes[order[first - 1]] == hashes[order[at]]:
            first -= 1
        ids = [_document_id(store, places, indices, int(owners[order[i]]), int(within[order[i]])) for i in range(first, at + 1)]
        if ids[-1] in ids[:-1]:
            found[places[owners[order[at]]][0]].add(ids[-1])
    return {number: frozenset(ids) for number, ids in found.items()}


def finish(
    store: Store,
    plan: Plan,
    records: dict[int, TaskRecord],
    vocabulary: Vocabulary | None,
    history: Sequence[dict[str, Any]] = (),
) -> None:
    """Write `lost.jsonl` and, last, the manifest over the shards of all records; `history` is told of the sets they come from."""
    numbers = sorted(records)
    lost = b"".join(store.read(lost_name(number)) for number in numbers)
    files = {LOST_FILE: FileEntry(sha256=hashlib.sha256(lost).hexdigest(), bytes=len(lost))}
    for number in numbers:
        files |= records[number].files
    shards = [shard for number in numbers for shard in records[number].shards]
    manifest = {
        "format": FORMAT,
        "kind": plan.kind,
        "documents": sum(shard.documents for shard in shards),
        COUNTED[plan.kind]: {name: sum(shard.counts[name] for shard in shards) for name in COLUMNS[plan.kind]},
        "lost": dict(sorted(Counter(one.rule or BAD_DATA for one in from_lines(lost)).items())),
        "built": plan.built,
        "plan": plan.fingerprint,
        **({"history": list(history)} if history else {}),
        "shards": [shard.model_dump(mode="json") for shard in shards],
        "files": {name: entry.model_dump(mode="json") for name, entry in sorted(files.items())},
    }
    if vocabulary is not None:
        manifest["vocabulary"] = vocabulary.fingerprint
    store.write(LOST_FILE, lost)
    store.write(MANIFEST, (json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def _index(store: Store, files: dict[str, FileEntry], shard: ShardEntry) -> Index:
    name = index_name(shard.name)
    return check_index(store.read(name), files, shard, store.path(name))


def _document_id(store: Store, places: Sequence[tuple[int, ShardEntry]], indices: list[Index], place: int, number: int) -> str:
    name, index = places[place][1].name, indices[place]
    start, end = index.offsets[number : number + 2].tolist()
    return decode_json(index.decode(name, number, store.read_range(name, start, end))["json"])["id"]
