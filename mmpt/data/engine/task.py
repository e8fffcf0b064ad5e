"""One task: some units read, written as shards of their own, and recorded. Done twice, it gives the same bytes."""

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmpt.config import Schema
from mmpt.data.lost import Lost, to_lines
from mmpt.data.shards.manifest import DocumentShard, FileEntry, TokenShard, read_manifest
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.shards.write import ShardWriter, TokenShardWriter
from mmpt.data.store import Store
from mmpt.data.unit import Unit, told
from mmpt.document import Document
from mmpt.errors import DataError, MmptError
from mmpt.modality import MEDIA
from mmpt.vocabulary import Vocabulary

RECORDS = "tasks"
"""Folder of the records of finished tasks in a set that is being built."""
WORK = ".work-"
"""What names of temporary folders in such a set begin with."""


Written = Iterator[Document | Lost] | Iterator[TokenDocument | Lost]
"""What is written as shards: documents, or token sequences, and between them what was lost."""


@dataclass(frozen=True)
class Job:
    """What is the same for every task: `read` (a function of a module) turns `config` and a unit into documents. Relative paths
    in `config` are those of `folder`."""

    out: str
    folder: str
    read: Callable[[Any, Unit[Any]], Written]
    config: Schema
    max_bytes: int
    vocabulary: Vocabulary | None = None


@dataclass(frozen=True)
class Task:
    """The units that become the shards number `number`; documents whose id is in `skip` were written by an earlier task."""

    number: int
    units: tuple[Unit[Any], ...]
    skip: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        return sum(unit.size for unit in self.units)


class TaskRecord(Schema):
    """That a task is done, and what came of it."""

    documents: int
    """Documents in its shards."""
    shards: tuple[DocumentShard | TokenShard, ...]
    """Its shards in order."""
    files: dict[str, FileEntry]
    """Its files, those shards and their indices."""
    bad: int
    """Documents lost to bad data."""
    parts: int
    """Pictures and recordings in its shards; 0 of token sequences."""
    bad_parts: int
    """Pictures and recordings lost to bad data."""
    rules: int
    """Things that a rule dropped."""

    @property
    def bytes(self) -> int:
        """Size of its shards."""
        return sum(shard.bytes for shard in self.shards)


def record_name(number: int) -> str:
    """Name of the record that says that a task is done."""
    return f"{RECORDS}/{number:05d}.json"


def lost_name(number: int) -> str:
    """Name of the list of what a task lost."""
    return f"{RECORDS}/{number:05d}.lost.jsonl"


def run_task(job: Job, task: Task) -> TaskRecord:
    """Write the shards of a task, then its record, which is returned.

    Raises `DataError` where something cannot be written, and what `read` raises besides `DataError`: that is bad data, listed.
    """
    enter(job.folder)
    store = Store(job.out)
    lost: list[Lost] = []
    with tempfile.TemporaryDirectory(prefix=WORK, dir=job.out if store.is_local else None) as folder:
        try:
            made = Path(folder) / "set"
            with _writer(job, task, made) as writer:
                for one in _documents(job, task):
                    if isinstance(one, Lost):
                        lost.append(one)
                        continue
                    try:
                        if one.id in task.skip:
                            raise DataError(f"document id {one.id!r} was written by an earlier task")
                        writer.write(one)  # pyright: ignore[reportArgumentType] (a job with a vocabulary reads token documents)
                    except MmptError as problem:
                        lost.append(Lost(one.id, str(problem).removeprefix(f"{made}: "), document=one.id))
        except OSError as problem:
            raise DataError(f"{job.out}: cannot be written ({problem.strerror or problem})") from None
        manifest = read_manifest(made)
        for name in manifest.files:
            store.put(name, made / name)
    record = TaskRecord.model_validate({
        "documents": manifest.documents,
        "shards": manifest.shards,
        "files": manifest.files,
        "bad": sum(one.bad for one in lost),
        "parts": sum(manifest.counts[name] for name in MEDIA) if job.vocabulary is None else 0,
        "bad_parts": sum(one.bad_part for one in lost),
        "rules": sum(bool(one.rule) for one in lost),
    })  # fmt: skip
    # The record comes last: a task that has one is not done again.
    store.write(lost_name(task.number), to_lines(lost))
    store.write(record_name(task.number), record.model_dump_json().encode())
    return record


def enter(folder: str) -> None:
    """A worker of a cluster that was started elsewhere gets the folder in which the command was given. Where its machine has none
    of that name it gets an empty one, so that a relative path is no file there, and not another one of the same name."""
    if os.getcwd() != folder:
        try:
            os.chdir(folder)
        except OSError:
            os.chdir(_empty_folder().name)


@lru_cache(maxsize=1)
def _empty_folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="mmpt-no-folder-")


def _writer(job: Job, task: Task, folder: Path) -> ShardWriter | TokenShardWriter:
    if job.vocabulary is None:
        return ShardWriter(folder, built={}, max_bytes=job.max_bytes, task=task.number)
    return TokenShardWriter(folder, vocabulary=job.vocabulary, built={}, max_bytes=job.max_bytes, task=task.number)


def _documents(job: Job, task: Task) -> Iterator[Document | TokenDocument | Lost]:
    for unit in task.units:
        try:
            yield from job.read(job.config, unit)
        except DataError as problem:
            yield Lost(told(unit.what), str(problem))
