"""The documents of a pool that are kept by the scores beside it, and what goes by which rule."""

import difflib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
from rich.progress import Progress

from mmpt.data.curate.formula import names_in
from mmpt.data.curate.portions import Portion, ShardSets
from mmpt.data.curate.selection import SelectionSettings, decide
from mmpt.data.curate.steps import Step
from mmpt.data.engine.run import RunConfig
from mmpt.data.engine.task import enter
from mmpt.data.engine.workers import run_all
from mmpt.data.lost import Lost
from mmpt.data.shards import scores
from mmpt.data.shards.index import id_hash
from mmpt.data.store import Store
from mmpt.data.unit import Unit
from mmpt.document import Document
from mmpt.errors import ConfigError

Told = dict[str, list[int]]
"""Of a shard: by each rule, the numbers of the documents that go."""
OWN = ("id", "source")


class Select(Step, SelectionSettings):
    """Documents kept by expressions over stored scores and meta, as RedPajama 2 (Weber et al. 2024, arXiv:2411.12372) keeps
    signals apart from what is done with them; by the highest share as DCLM (Li et al. 2024, arXiv:2406.11794), or drawn as DSIR
    (Xie et al. 2023, arXiv:2302.03169). Nothing but what is kept is copied.
    """

    carries: ClassVar[tuple[str, ...]] = (
        "DataComp-LM (DCLM)",
        "Dolma",
        "RedPajama",
        "Data Filtering Networks (DFN)",
        "POINTS (affordable VLM strategies)",
        "DSIR (importance resampling)",
    )

    keeps_documents: ClassVar = True

    def prepare(self, sets: ShardSets, run: RunConfig, progress: Progress | None, out: str) -> list[Unit[Portion]]:
        """Each shard with what goes of it. Raises `ConfigError` where a name is neither that of a score nor of a field."""
        units = sets.units()
        names = sorted({name for formula in self.formulas for name in names_in(formula)})
        scored, known = _scores(sets, units, names)
        fields = [name for name in names if name not in scored]
        work = partial(_look, sets, os.getcwd(), tuple(fields))
        task = progress.add_task("looking", total=len(units)) if progress else None
        found: dict[int, tuple[list[int], list[dict[str, Any]]]] = {}
        for (number, _), looked in run_all(work, list(enumerate(units)), run.processes, run.ray):
            found[number] = looked
            if progress and task is not None:
                progress.advance(task)
        rows = [row for number in range(len(units)) for row in found[number][1]]
        _check_fields(fields, rows, known)
        for name, values in scored.items():
            for row, value in zip(rows, values.tolist(), strict=True):
                row[name] = value
        ids = np.array([one for number in range(len(units)) for one in found[number][0]], dtype=np.uint64)
        rules = decide(self, rows, ids)
        told, first = [], 0
        for unit in units:
            gone: Told = defaultdict(list)
            for place in range(unit.what.shard.documents):
                if rules[first + place]:
                    gone[rules[first + place]].append(place)
            told.append(Unit(Portion(unit.what.folder, unit.what.shard, dict(gone)), unit.size))
            first += unit.what.shard.documents
        return told

    def run(self, documents: Iterable[Document | Lost], told: Told | None = None) -> Iterator[Document | Lost]:
        """The documents of a shard that stay; each that goes is listed with its rule."""
        rules = {place: rule for rule, places in (told or {}).items() for place in places}
        for place, one in enumerate(documents):
            if place in rules and isinstance(one, Document):
                yield Lost(one.id, self._reason(rules[place]), one.id, True, rules[place])
            else:
                yield one

    def _reason(self, rule: str) -> str:
        settings = self.model_dump(exclude_defaults=True, exclude={"kind"})
        return f"{rule} of {', '.join(f'{name} {value}' for name, value in settings.items())}"


def _scores(sets: ShardSets, units: list[Unit[Portion]], names: list[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """(The scores among `names`, of all documents, names of all scores that there are)."""
    stores = [Store(folder) for folder in sets.folders]
    known = [set(scores.names(store)) for store in stores]
    everywhere = sorted(set.intersection(*known)) if known else []
    found = {}
    for name in names:
        if any(name in one for one in known) and name not in everywhere:
            lacking = next(store.location for store, one in zip(stores, known, strict=True) if name not in one)
            raise ConfigError(f"{lacking}: no scores {name!r}, which another of the sets has")
        if name in everywhere:
            shards = [[unit.what.shard for unit in units if unit.what.folder == number] for number in range(len(stores))]
            arrays = [one for store, own in zip(stores, shards, strict=True) for one in scores.read_scores(store, name, own)]
            found[name] = np.concatenate([np.zeros(0, np.float32), *arrays])
    return found, everywhere


def _look(
    sets: ShardSets, folder: str, fields: tuple[str, ...], numbered: tuple[int, Unit[Portion]]
) -> tuple[list[int], list[dict[str, Any]]]:
    """(Hashes of the ids, fields by name) of the documents of a shard; of a damaged one 0 and nothing."""
    enter(folder)
    ids: list[int] = []
    rows: list[dict[str, Any]] = []
    for one in sets.documents(numbered[1]):
        if isinstance(one, Lost):
            ids.append(0)
            rows.append({})
            continue
        own = {**one.meta, "id": one.id, "source": one.source}
        ids.append(id_hash(one.id))
        rows.append({name: value for name in fields if (value := _field(own, name)) is not None})
    return ids, rows


def _field(content: Any, name: str) -> Any:
    """`a.b` in {"a": {"b": 1}}: 1; None where there is none."""
    for key in name.split("."):
        content = content.get(key) if isinstance(content, Mapping) else None
    return content


def _check_fields(fields: list[str], rows: list[dict[str, Any]], known: list[str]) -> None:
    missing = [name for name in fields if name not in OWN and not any(name in row for row in rows)]
    if missing:
        near = [one for name in missing for one in difflib.get_close_matches(name, known, 1)]
        raise ConfigError(
            f"{', '.join(missing)}: neither scores beside the sets (there are {', '.join(known) or 'none'}) nor a field of the "
            f"documents' meta{f', did you mean {near[0]}?' if near else ''}"
        )
