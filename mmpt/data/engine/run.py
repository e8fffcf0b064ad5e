"""From units of work to one finished set of shards: restartable, and the same bytes however many processes took part."""

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pydantic
from rich.progress import Progress

from mmpt.config import Schema
from mmpt.data.engine.finish import Plan, finish, repeated_ids
from mmpt.data.engine.task import RECORDS, WORK, Job, Task, TaskRecord, Written, record_name, run_task
from mmpt.data.engine.workers import run_all
from mmpt.data.lost import BAD_DATA
from mmpt.data.shards.manifest import origin, parse_manifest
from mmpt.data.shards.write import MAX_BYTES
from mmpt.data.store import Store
from mmpt.data.unit import Unit, plain
from mmpt.errors import ConfigError, DataError
from mmpt.storage import MANIFEST
from mmpt.vocabulary import Vocabulary

PLAN = "plan.json"
"""Name of the plan in a set that is being built."""
TASKS = 32
"""Tasks at least of what is worth it."""
LEAST_TASK_BYTES = 1 << 20
ENOUGH = 100
"""Documents seen before their share of bad ones can stop a run."""
_SHARES = (("documents", "bad", "documents are bad"), ("parts", "bad_parts", "pictures and recordings are missing or bad"))


class RunConfig(Schema):
    """How a tool that writes shards runs."""

    processes: int = pydantic.Field(default=1, ge=1)
    """Processes of this machine."""
    ray: str | None = None
    """Address of a Ray cluster to use instead: "auto", "HOST:PORT", "ray://…"."""
    max_lost: float = pydantic.Field(default=0.05, ge=0, le=1)
    """It stops when a larger share of the documents is bad, or of the pictures and recordings in them."""
    max_bytes: int = pydantic.Field(default=MAX_BYTES, ge=1)
    """Bytes past which a shard does not grow."""


@dataclass(frozen=True)
class Summary:
    """What a finished set holds: `documents`, `bytes` of its shards, and how many things were `lost`, by rule (`BAD_DATA`: by
    none); `seconds` of this run."""

    documents: int
    bytes: int
    lost: dict[str, int]
    seconds: float

    def __str__(self) -> str:
        rate = f"{self.documents / self.seconds:,.0f} documents/s, {self.bytes / 1e6 / self.seconds:,.1f} MB/s"
        lost = ", ".join(f"{count:,} {'lost' if rule == BAD_DATA else 'by ' + rule}" for rule, count in self.lost.items())
        return f"{self.documents:,} documents, {self.bytes / 1e6:,.1f} MB, {rate}{'; ' + lost if lost else ''}"


def write_set(
    out: str | Path,
    *,
    read: Callable[[Any, Unit[Any]], Written],
    config: Schema,
    units: Iterable[Unit[Any]],
    built: dict[str, Any],
    run: RunConfig = RunConfig(),  # noqa: B008 (frozen)
    progress: Progress | None = None,
    title: str = "",
    vocabulary: Vocabulary | None = None,
    sets: Iterable[str | Path] = (),
) -> Summary:
    """Write the documents that `read(config, unit)` yields for each of `units`, in order, as the shard set `out`.

    `out` is a path or an fsspec URL. Killed at any moment and run again with the same arguments, it goes on after the tasks
    that were done and ends with the same bytes. `read` must be a function of a module and `config` hold all it depends on.
    `built` (JSON values) goes to the manifest, and what `sets`, those that this one is made of, say of themselves. With a
    `vocabulary`, `read` yields `TokenDocument`s and a token set is written. What was lost is listed in `lost.jsonl`. Of two
    documents with one id the first is kept.

    Raises `ConfigError` where `out` holds something else, `DataError` where too much is lost or nothing can be written.
    """
    began = time.monotonic()
    store = Store(out)
    tasks = plan_tasks(units, run.max_bytes)
    if not tasks:
        raise ConfigError(f"{store.location}: there is nothing to read")
    built = {**built, "max_bytes": run.max_bytes}
    plan = Plan(
        built=built,
        kind="tokens" if vocabulary else "documents",
        tasks=len(tasks),
        units=_fingerprint(tasks),
        vocabulary=vocabulary.fingerprint if vocabulary else None,
    )
    place = str(Path(store.location).absolute()) if store.is_local else store.location
    job = Job(place, os.getcwd(), read, config, run.max_bytes, vocabulary)
    if not _begin(store, plan):
        records = _run(job, tasks, run, store, progress, title)
        # What is written anew without the ids it shared may now share others that were hidden behind them, so look again.
        while repeated := repeated_ids(store, records):
            again = [Task(task.number, task.units, repeated[task.number]) for task in tasks if task.number in repeated]
            for task in again:
                store.remove(record_name(task.number))
                for name in records[task.number].files:
                    store.remove(name)
            records |= {task.number: record for task, record in run_all(partial(run_task, job), again, run.processes, run.ray)}
        finish(store, plan, records, vocabulary, [origin(one) for one in sets])
    _clean(store)
    manifest = parse_manifest(store.read(MANIFEST), store.path(MANIFEST))
    return Summary(manifest.documents, manifest.bytes, manifest.lost, max(time.monotonic() - began, 1e-9))


def plan_tasks(units: Iterable[Unit[Any]], max_bytes: int) -> list[Task]:
    """Consecutive units in tasks of a shard's size, of less where there is little, so that every process gets some.

    Of a unit of size 0 (a server that does not say how long its files are) something may come all the same.
    """
    sized = [(unit, unit.size or LEAST_TASK_BYTES) for unit in units]
    target = min(max_bytes, max(sum(size for _, size in sized) // TASKS, LEAST_TASK_BYTES))
    groups: list[list[Unit[Any]]] = []
    room = 0
    for unit, size in sized:
        if not groups or size > room:
            groups.append([])
            room = target
        groups[-1].append(unit)
        room -= size
    return [Task(number, tuple(group)) for number, group in enumerate(groups)]


def _begin(store: Store, plan: Plan) -> bool:
    """Whether the set is already finished. Makes sure that the folder is empty, or holds this plan half done."""
    if store.exists(MANIFEST):
        manifest = json.loads(store.read(MANIFEST))
        if manifest.get("plan") == plan.fingerprint:
            return True
        raise ConfigError(f"{store.location}: holds a finished set that was built otherwise; remove it, or choose another folder")
    if store.exists(PLAN):
        if json.loads(store.read(PLAN)) != plan.content:
            raise ConfigError(
                f"{store.location}: holds a half-built set of another specification or of other files; remove it, or choose "
                "another folder"
            )
    else:
        if store.is_local:
            Path(store.location).mkdir(parents=True, exist_ok=True)
            if any(Path(store.location).iterdir()):
                raise ConfigError(f"{store.location}: is not empty and holds no set that could be gone on with")
        store.write(PLAN, json.dumps(plan.content, sort_keys=True).encode())
    if store.is_local:
        for path in Path(store.location).glob(f"{WORK}*"):
            shutil.rmtree(path, ignore_errors=True)
    return False


def _run(
    job: Job, tasks: list[Task], run: RunConfig, store: Store, progress: Progress | None, title: str
) -> dict[int, TaskRecord]:
    """Records of all tasks by number; those that lie there already are not done again."""
    records: dict[int, TaskRecord] = {}
    for task in tasks:
        if store.exists(record_name(task.number)):
            records[task.number] = TaskRecord.model_validate_json(store.read(record_name(task.number)))
    counts: Counter[str] = Counter()
    bar = progress.add_task(title, total=sum(max(task.size, 1) for task in tasks)) if progress else None
    began = time.monotonic()

    def count(task: Task, record: TaskRecord, now: bool) -> None:
        counts.update({name: getattr(record, name) for name in ("documents", "bad", "parts", "bad_parts", "rules")})
        _check_share(counts, run.max_lost, store)
        if now:
            counts.update(written=record.documents, bytes=record.bytes)
        if progress and bar is not None:
            seconds = max(time.monotonic() - began, 1e-9)
            rate = f"{counts['written'] / seconds:,.0f} documents/s, {counts['bytes'] / 1e6 / seconds:,.1f} MB/s"
            progress.update(bar, advance=max(task.size, 1), description=f"{title}: {rate}")

    for task in tasks:
        if task.number in records:
            count(task, records[task.number], now=False)
    left = [task for task in tasks if task.number not in records]
    for task, record in run_all(partial(run_task, job), left, run.processes, run.ray):
        records[task.number] = record
        count(task, record, now=True)
    if not counts["documents"] and (counts["bad"] or not counts["rules"]):
        of = f"not one of {counts['bad']} documents could be read" if counts["bad"] else "no document came of what was read"
        raise DataError(f"{store.location}: {of}; see {RECORDS}/*.lost.jsonl there")
    if not counts["parts"] and counts["bad_parts"] and run.max_lost < 1:
        of = f"not one of {counts['bad_parts']} pictures and recordings could be read"
        raise DataError(f"{store.location}: {of}; see {RECORDS}/*.lost.jsonl there, or allow it with max_lost 1")
    return records


def _check_share(counts: Counter, max_lost: float, store: Store) -> None:
    for kept, lost, what in _SHARES:
        seen = counts[kept] + counts[lost]
        if seen >= ENOUGH and counts[lost] > max_lost * seen:
            raise DataError(
                f"{store.location}: {counts[lost]} of {seen} {what}, more than max_lost {max_lost:g} allows; "
                f"see {RECORDS}/*.lost.jsonl there"
            )


def _clean(store: Store) -> None:
    store.remove(RECORDS)
    store.remove(PLAN)
    if store.is_local:
        for path in Path(store.location).glob(f"{WORK}*"):
            shutil.rmtree(path, ignore_errors=True)


def _fingerprint(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=plain).encode()).hexdigest()
