"""Signatures of document sets in a folder: shard by shard, so that a run that was stopped goes on, and kept for later runs."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from mmpt.config import Schema
from mmpt.data.curate.copies.buckets import Member, name_of, read_span
from mmpt.data.curate.portions import Portion, ShardSets
from mmpt.data.engine.run import RunConfig
from mmpt.data.engine.task import enter
from mmpt.data.engine.workers import run_all
from mmpt.data.store import Store
from mmpt.data.unit import Unit
from mmpt.document import Document
from mmpt.errors import ConfigError, DataError

SETTINGS = "signatures.json"
"""What the signatures of a folder are: how they were made, and of which shards."""
DONE = "done"
"""The file of a table that says that a shard is signed."""
Sign = Callable[[Any, Store, int, Iterable[Document]], None]
"""Writes what is kept of the documents of a shard, by its number."""


def sign_sets(
    sign: Sign, config: Schema, sets: ShardSets, store: Store, table: str, run: RunConfig, progress: Progress | None
) -> list[Unit[Portion]]:
    """Write the signatures of all shards that have none; all shards are returned. Raises `ConfigError` where others lie there.

    `sign` is a function of a module, and `config` holds all it depends on.
    """
    units = sets.units()
    shards = [{"sha256": unit.what.shard.sha256, "documents": unit.what.shard.documents} for unit in units]
    wanted = {"signing": {table: config.model_dump(mode="json")}, "shards": shards}
    if not store.exists(SETTINGS):
        store.write(SETTINGS, json.dumps(wanted, indent=1).encode())
    elif store.json(SETTINGS) != wanted:
        raise ConfigError(
            f"{store.location}: holds signatures of other documents or by other settings; remove it, or choose another folder"
        )
    if store.is_local:
        for path in Path(store.location).glob(".*.tmp"):  # of a run that was killed while it wrote
            path.unlink(missing_ok=True)
    left = [(number, unit) for number, unit in enumerate(units) if not store.exists(name_of(number, table, DONE))]
    bar = progress.add_task("signing", total=len(units), completed=len(units) - len(left)) if progress else None
    for _ in run_all(partial(_sign, sign, config, sets, store.location, table, os.getcwd()), left, run.processes, run.ray):
        if progress and bar is not None:
            progress.advance(bar)
    return units


def _sign(
    sign: Sign, config: Schema, sets: ShardSets, place: str, table: str, folder: str, numbered: tuple[int, Unit[Portion]]
) -> None:
    enter(folder)
    number, unit = numbered
    store = Store(place)
    sign(config, store, number, (one for one in sets.documents(unit) if isinstance(one, Document)))
    store.write(name_of(number, table, DONE), b"")  # last: a shard that has it is not signed again


def members_of(places: Sequence[str], signing: Schema, table: str) -> tuple[list[Member], int]:
    """The shards of folders of signatures, one after the other, and how many documents they have."""
    found: list[Member] = []
    first = 0
    for place in places:
        store = Store(place)
        try:
            known = store.json(SETTINGS)
            made, shards = known["signing"], [int(shard["documents"]) for shard in known["shards"]]
        except (DataError, LookupError, TypeError) as problem:
            raise ConfigError(f"{place}: no folder of signatures ({problem})") from None
        if made != {table: signing.model_dump(mode="json")}:
            raise ConfigError(f"{place}: signatures by other settings: {json.dumps(made)}")
        for number, documents in enumerate(shards):
            if not store.exists(name_of(number, table, DONE)):
                raise ConfigError(f"{place}: the signatures of shard {number} are missing; run to its end what makes them")
            found.append(Member(place, number, first))
            first += documents
    return found, first


def shares(members: Sequence[Member], numbers: Iterable[int]) -> Iterator[tuple[Member, list[int]]]:
    """Each shard with those of the numbers, of documents over all shards, that are its own, in order."""
    ordered = np.array(sorted(numbers), dtype=np.int64)
    bounds = [*np.searchsorted(ordered, [one.first for one in members]).tolist(), len(ordered)]
    for member, low, high in zip(members, bounds[:-1], bounds[1:], strict=True):
        yield member, ordered[low:high].tolist()


def ids_of(members: Sequence[Member], table: str, numbers: Iterable[int]) -> dict[int, Any]:
    """Number → what the table has for its name: the id of documents; of each shard that one is in the ids are read once."""
    found: dict[int, Any] = {}
    for member, own in shares(members, numbers):
        ids = json.loads(read_span(member.location, name_of(member.shard, table, "ids"), 0, None)) if own else []
        found |= {number: ids[number - member.first] for number in own}
    return found


def write_decisions(store: Store, data: bytes) -> str:
    """Write what was decided on a shard, and return the file's name, which tells its content."""
    name = f"{hashlib.sha256(data).hexdigest()[:16]}.decisions"
    store.write(name, data)
    return name
