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

import pydantic
from rich.progress import Progress

from mmpt.config import Schema
from mmpt.data.engine.finish import finish, repeated_ids
from mmpt.data.engine.task import RECORDS, WORK, Job, Task, record_name, run_task
from mmpt.data.engine.workers import run_all
from mmpt.data.lost import BAD_DATA, Documents
from mmpt.data.shards.write import MAX_BYTES
from mmpt.data.sources.base import Unit
from mmpt.data.store import Store
from mmpt.errors import ConfigError, DataError
from mmpt.storage import MANIFEST
from mmpt.vocabulary import Vocabulary

PLAN = "plan.json"
TASKS = 32
LEAST_TASK_BYTES = 1 << 20
ENOUGH = 100
"""Documents seen before their share of bad ones can stop a run."""
_SHARES = (("documents", "bad", "documents are bad"), ("parts", "bad_parts", "pictures and recordings are missing or bad"))


class RunConfig(Schema):
    """How a tool runs: in `processes` of this machine, or on the Ray cluster at `ray` ("auto", "HOST:PORT", "ray://…").

    It stops when more than `max_lost` of the documents are bad, or of the pictures and recordings in them. A shard is closed
    before it grows past `max_bytes`.
    """

    processes: int = pydantic.Field(1, ge=1)
    ray: str | None = None
    max_lost: float = pydantic.Field(0.05, ge=0, le=1)
    max_bytes: int = pydantic.Field(MAX_BYTES, ge=1)


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
    read: Callable[[Schema, Unit], Documents],
    config: Schema,
    units: Iterable[Unit],
    built: dict,
    run: RunConfig = RunConfig(),  # noqa: B008 (frozen)
    progress: Progress | None = None,
    title: str = "",
    vocabulary: Vocabulary | None = None,
) -> Summary:
    """Write the documents that `read(config, unit)` yields for each of `units`, in order, as the shard set `out`.

    `out` is a path or an fsspec URL. Killed at any moment and run again with the same arguments, it goes on after the tasks
    that were done and ends with the same bytes. `read` must be a function of a module and `config` hold all it depends on.
    `built` (JSON values) goes to the manifest. With a `vocabulary`, `read` yields `TokenDocument`s and a token set is written.
    What was lost is listed in `lost.jsonl`. Of two documents with one id the first is kept.

    Raises `ConfigError` where `out` holds something else, `DataError` where too much is lost or nothing can be written.
    """
    began = time.monotonic()
    store = Store(out)
    tasks = plan_tasks(units, run.max_bytes)
    if not tasks:
        raise ConfigError(f"{store.location}: there is nothing to read")
    built = {**built, "max_bytes": run.max_bytes}
    plan = {"built": built, "kind": "tokens" if vocabulary else "documents", "tasks": len(tasks), "units": _fingerprint(tasks)}
    if vocabulary:
        plan["vocabulary"] = vocabulary.fingerprint
    place = str(Path(out).absolute()) if store.is_local else store.location
    job = Job(place, os.getcwd(), read, config, run.max_bytes, vocabulary)
    if not _begin(store, plan):
        records = _run(job, tasks, run, store, progress, title)
        while repeated := repeated_ids(store, records):
            again = [Task(task.number, task.units, repeated[task.number]) for task in tasks if task.number in repeated]
            for task in again:
                store.remove(record_name(task.number))
                for name in records[task.number]["files"]:
                    store.remove(name)
            records |= {task.number: record for task, record in run_all(partial(run_task, job), again, run.processes, run.ray)}
        finish(store, plan, records, vocabulary)
    _clean(store)
    manifest = json.loads(store.read(MANIFEST))
    size = sum(shard["bytes"] for shard in manifest["shards"])
    return Summary(manifest["documents"], size, manifest["lost"], max(time.monotonic() - began, 1e-9))


def plan_tasks(units: Iterable[Unit], max_bytes: int) -> list[Task]:
    """Consecutive units in tasks of a shard's size, of less where there is little, so that every process gets some.

    Of a unit of size 0 (a server that does not say how long its files are) something may come all the same.
    """
    sized = [(unit, unit.size or LEAST_TASK_BYTES) for unit in units]
    target = min(max_bytes, max(sum(size for _, size in sized) // TASKS, LEAST_TASK_BYTES))
    groups: list[list[Unit]] = []
    room = 0
    for unit, size in sized:
        if not groups or size > room:
            groups.append([])
            room = target
        groups[-1].append(unit)
        room -= size
    return [Task(number, tuple(group)) for number, group in enumerate(groups)]


def _begin(store: Store, plan: dict) -> bool:
    """Whether the set is already finished. Makes sure that the folder is empty, or holds this plan half done."""
    if store.exists(MANIFEST):
        manifest = json.loads(store.read(MANIFEST))
        if manifest.get("plan") == _fingerprint(plan):
            return True
        raise ConfigError(f"{store.location}: holds a finished set that was built otherwise; remove it, or choose another folder")
    if store.exists(PLAN):
        if json.loads(store.read(PLAN)) != plan:
            raise ConfigError(
                f"{store.location}: holds a half-built set of another specification or of other files; remove it, or choose "
                "another folder"
            )
    else:
        if store.is_local:
            Path(store.location).mkdir(parents=True, exist_ok=True)
            if any(Path(store.location).iterdir()):
                raise ConfigError(f"{store.location}: is not empty and holds no set that could be gone on with")
        store.write(PLAN, json.dumps(plan, sort_keys=True).encode())
    if store.is_local:
        for path in Path(store.location).glob(f"{WORK}*"):
            shutil.rmtree(path, ignore_errors=True)
    return False


def _run(job: Job, tasks: list[Task], run: RunConfig, store: Store, progress: Progress | None, title: str) -> dict[int, dict]:
    """Records of all tasks by number; those that lie there already are not done again."""
    records: dict[int, dict] = {}
    for task in tasks:
        if store.exists(record_name(task.number)):
            records[task.number] = json.loads(store.read(record_name(task.number)))
    counts = Counter()
    bar = progress.add_task(title, total=sum(max(task.size, 1) for task in tasks)) if progress else None
    began = time.monotonic()

    def count(task: Task, record: dict, now: bool) -> None:
        counts.update({name: record.get(name, 0) for name in ("documents", "bad", "parts", "bad_parts", "rules")})
        _check_share(counts, run.max_lost, store)
        if now:
            counts.update(written=record["documents"], bytes=sum(shard["bytes"] for shard in record["shards"]))
        if progress:
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
    def plain(one: object) -> object:
        return sorted(one) if isinstance(one, frozenset) else vars(one)

    return hashlib.sha256(json.dumps(value, sort_keys=True, default=plain).encode()).hexdigest()
