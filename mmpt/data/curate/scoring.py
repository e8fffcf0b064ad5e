"""Scores for every document of a set, written beside it shard by shard; stopped at any moment, the same call goes on."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import safetensors.numpy
from rich.progress import Progress

from mmpt.config import Schema
from mmpt.data.curate.portions import Portion, ShardSets
from mmpt.data.curate.scorers import DocumentSet, Fitted, Scorer
from mmpt.data.engine.run import RunConfig
from mmpt.data.engine.task import enter
from mmpt.data.engine.workers import run_all
from mmpt.data.lost import Lost, to_lines
from mmpt.data.shards.scores import FOLDER, array_name, read_array, read_record, record, record_name, write_array
from mmpt.data.store import Store
from mmpt.data.unit import Unit
from mmpt.document import Document
from mmpt.errors import ConfigError, DataError
from mmpt.storage import MANIFEST, sha256

FITTED = "fitted.safetensors"
BYTES = 64 << 20
"""Bytes of the documents of a batch, above which it is not filled up."""


class ScoreConfig(Schema):
    """What scores the documents of a set."""

    scorer: Scorer
    """The method."""
    name: str | None = pydantic.Field(default=None, pattern=r"^[A-Za-z_]\w*$")
    """What the scores are called, in `select` and as folder of SET/scores; null: the scorer's kind."""
    batch: int = pydantic.Field(default=64, ge=1)
    """Documents that are scored together."""


@dataclass(frozen=True)
class ScoreSummary:
    """`scores` float32 [documents] of the whole set, and of how many shards there were `kept` ones from a run before."""

    name: str
    scores: np.ndarray
    kept: int

    def __str__(self) -> str:
        known = self.scores[~np.isnan(self.scores)]
        found = f"{self.name}: {len(self.scores):,} documents, {len(self.scores) - len(known):,} without a score"
        if len(known):
            levels = np.quantile(known, (0, 0.1, 0.5, 0.9, 1))
            found += ", min, 10 %, 50 %, 90 %, max: " + ", ".join(f"{value:.4g}" for value in levels)
        return found + (f"; {self.kept:,} shards were scored before" if self.kept else "")


@dataclass(frozen=True)
class _Work:
    """What is the same for every shard; relative paths are those of `folder`."""

    sets: ShardSets
    config: ScoreConfig
    name: str
    folder: str
    fitted: bool


def score(
    config: ScoreConfig,
    folder: str | Path,
    run: RunConfig = RunConfig(),  # noqa: B008 (frozen)
    progress: Progress | None = None,
) -> ScoreSummary:
    """Score the set at `folder`, a path or URL. Raises `ConfigError` where there are scores of that name by another scorer, or of
    other shards."""
    sets = ShardSets(folders=(str(folder),))
    units = sets.units()
    store, name = Store(folder), config.name or config.scorer.kind
    wanted = record(
        {**config.scorer.model_dump(mode="json"), "reads": {one: _content(one) for one in config.scorer.reads()}},
        [unit.what.shard for unit in units],
    )
    if not store.exists(record_name(name)):
        store.write(record_name(name), json.dumps(wanted, indent=1, ensure_ascii=False).encode())
    elif read_record(store, name) != wanted:
        raise ConfigError(
            f"{store.location}: {FOLDER}/{name} holds scores by another scorer or of other shards; remove it, or choose "
            "another name"
        )
    work = _Work(sets, config, name, os.getcwd(), _fit(config.scorer, str(folder), store, name))
    left = [unit for unit in units if not store.exists(array_name(name, unit.what.shard.name))]
    processes = 1 if config.scorer.holds_model else run.processes
    bar = progress.add_task(f"scoring: {name}", total=len(units), completed=len(units) - len(left)) if progress else None
    for _ in run_all(partial(_shard, work), left, processes, run.ray):
        if progress and bar is not None:
            progress.advance(bar)
    arrays = [read_array(store, name, unit.what.shard) for unit in units]
    return ScoreSummary(name, np.concatenate([np.zeros(0, np.float32), *arrays]), len(units) - len(left))


def _fit(scorer: Scorer, folder: str, store: Store, name: str) -> bool:
    """Whether it has learned something, which then lies in a file of the scores."""
    file = f"{FOLDER}/{name}/{FITTED}"
    if not store.exists(file) and (fitted := scorer.fit(DocumentSet(folder))):
        store.write(file, safetensors.numpy.save({key: np.ascontiguousarray(value) for key, value in fitted.items()}))
    return store.exists(file)


def _shard(work: _Work, unit: Unit[Portion]) -> None:
    """Score a shard and write the scores; what could not be examined is listed before."""
    enter(work.folder)
    store = Store(work.sets.folders[0])
    fitted = _fitted(store.location, work.name) if work.fitted else {}
    scores: list[np.ndarray] = []
    lost: list[Lost] = []
    for batch in _batches(work.sets.documents(unit), work.config.batch):
        found = np.full(len(batch), np.nan, dtype=np.float32)
        places = [place for place, one in enumerate(batch) if isinstance(one, Document)]
        lost += [one for one in batch if isinstance(one, Lost)]
        documents = [one for one in batch if isinstance(one, Document)]
        if documents:
            values, failed = _of(work.config.scorer, documents, fitted)
            found[places] = values
            lost += failed
        scores.append(found)
    shard = unit.what.shard.name
    if lost:
        store.write(array_name(work.name, shard).removesuffix(".npy") + ".jsonl", to_lines(lost))
    write_array(store, work.name, shard, np.concatenate([np.zeros(0, np.float32), *scores]))


def _of(scorer: Scorer, documents: Sequence[Document], fitted: Fitted) -> tuple[np.ndarray, list[Lost]]:
    """Scores of a batch, and what could not be examined; one such document does not take the others with it."""
    try:
        return np.asarray(scorer.score(documents, fitted), dtype=np.float32), []
    except DataError as problem:
        if len(documents) == 1:
            return np.full(1, np.nan, np.float32), [Lost(documents[0].id, str(problem), documents[0].id)]
    parts = [_of(scorer, [document], fitted) for document in documents]
    return np.concatenate([values for values, _ in parts]), [one for _, lost in parts for one in lost]


def _batches(documents: Iterator[Document | Lost], most: int) -> Iterator[list[Document | Lost]]:
    """Consecutive documents, fewer at once where their pictures and recordings are large."""
    batch: list[Document | Lost] = []
    size = 0
    for one in documents:
        batch.append(one)
        size += sum(len(getattr(part, "data", b"")) for part in one.parts) if isinstance(one, Document) else 0
        if len(batch) == most or size > BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@lru_cache(maxsize=1)
def _fitted(location: str, name: str) -> Fitted:
    """Read once in each process."""
    return safetensors.numpy.load(Store(location).read(f"{FOLDER}/{name}/{FITTED}"))


def _content(place: str) -> Any:
    """What tells whether a set or a model has changed: the hash of its manifest, else of its files, else its
    name."""
    path = Path(place)
    if "://" in place or (path / MANIFEST).is_file():
        return hashlib.sha256(Store(place).read(MANIFEST)).hexdigest()
    if path.is_dir():
        return {str(one.relative_to(path)): sha256(one) for one in sorted(path.rglob("*")) if one.is_file()}
    return sha256(path) if path.is_file() else place
