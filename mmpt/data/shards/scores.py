"""Scores beside a set of document shards, as Dolma keeps its attributes: nothing of the set is written anew.

    scores/NAME/scorer.json     what scored, and the SHA-256 of every shard it was for
    scores/NAME/SHARD.npy       float32 [documents of the shard], more = keep; NaN: this document has no score
    scores/NAME/SHARD.jsonl     why those could not be examined that could not (as `lost.jsonl`)

`scorer.json` is written first, each array whole or not at all.
"""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mmpt.data.shards.manifest import ShardEntry
from mmpt.data.shards.sample import decode_json
from mmpt.data.store import Store
from mmpt.errors import ConfigError, DataError

FOLDER = "scores"
RECORD = "scorer.json"
FORMAT = "mmpt-scores/1"


def record(scorer: Any, shards: Iterable[ShardEntry]) -> dict[str, Any]:
    """The content of `scorer.json`; `scorer` are JSON values that say all that the scores depend on besides the documents."""
    return {"format": FORMAT, "scorer": scorer, "shards": {shard.name: shard.sha256 for shard in shards}}


def record_name(name: str) -> str:
    return f"{FOLDER}/{name}/{RECORD}"


def array_name(name: str, shard: str) -> str:
    """`clip`, `shard-00000.tar` → `scores/clip/shard-00000.npy`."""
    return f"{FOLDER}/{name}/{shard.removesuffix('.tar')}.npy"


def write_array(store: Store, name: str, shard: str, scores: np.ndarray) -> None:
    """Write float32 [documents], whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, scores.astype("<f4"), allow_pickle=False)
    store.write(array_name(name, shard), buffer.getvalue())


def read_array(store: Store, name: str, shard: ShardEntry) -> np.ndarray:
    """float32 [documents] of a shard. Raises `DataError` naming the file where it is missing, or no such array."""
    file = array_name(name, shard.name)
    try:
        scores = np.load(io.BytesIO(store.read(file)), allow_pickle=False)
    except (ValueError, EOFError) as problem:
        raise DataError(f"{store.path(file)}: no array ({problem})") from None
    if scores.dtype != np.float32 or scores.shape != (shard.documents,):
        raise DataError(f"{store.path(file)}: {scores.dtype} {list(scores.shape)}, expected float32 [{shard.documents}]")
    return scores


def read_record(store: Store, name: str) -> dict[str, Any]:
    """`scorer.json` of a name. Raises `DataError`."""
    try:
        found = decode_json(store.read(record_name(name)))
    except DataError as problem:
        raise DataError(f"{store.path(record_name(name))}: {problem}") from None
    if found.get("format") != FORMAT:
        raise DataError(f"{store.path(record_name(name))}: format is {found.get('format')!r}, expected {FORMAT!r}")
    return found


def names(store: Store) -> list[str]:
    """The names of the scores beside a set, sorted."""
    return sorted({parts[1] for file in store.files() if len(parts := file.split("/")) == 3 and parts[0] == FOLDER})


def read_scores(store: Store, name: str, shards: Sequence[ShardEntry]) -> list[np.ndarray]:
    """The scores of each shard. Raises `ConfigError` where they are of other shards, or not finished."""
    try:
        found = read_record(store, name)
        if found.get("shards") != record(None, shards)["shards"]:
            raise DataError(f"{store.location}: the scores {name!r} are of other shards; remove {FOLDER}/{name} and score again")
        return [read_array(store, name, shard) for shard in shards]
    except DataError as problem:
        raise ConfigError(f"{problem} (datasets/score.py writes scores, and goes on where it was stopped)") from None


def score_problems(store: Store, shards: Sequence[ShardEntry]) -> list[tuple[str, str]]:
    """(file or folder, what is wrong with it) of all scores beside a set; shards without scores are not."""
    problems = []
    for name in names(store):
        try:
            if read_record(store, name).get("shards") != record(None, shards)["shards"]:
                problems.append((f"{FOLDER}/{name}", "scores of other shards"))
                continue
        except DataError as problem:
            problems.append((f"{FOLDER}/{name}", str(problem)))
            continue
        for shard in shards:
            try:
                if store.exists(array_name(name, shard.name)):
                    read_array(store, name, shard)
            except DataError as problem:
                problems.append((array_name(name, shard.name), str(problem)))
    return problems
