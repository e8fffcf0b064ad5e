"""All copies in document sets: signatures of each shard on disk, pairs of alike ones, and what goes, in a file for each shard."""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import numpy as np
from rich.progress import Progress

from mmpt.data.curate.copies.buckets import Member, name_of, read_array, shared_key, unique_pairs
from mmpt.data.curate.copies.decisions import Decision, DuplicateSettings, Gone, pictures_gone, whole_documents
from mmpt.data.curate.copies.pairs import Compared, Media, document_pairs, pictures, similarities, sounds, write_groups
from mmpt.data.curate.copies.signatures import DOCUMENTS, ROW, SigningSettings, read_ids, sign_shard
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


def find_copies(
    config: DuplicateSettings,
    sets: ShardSets,
    place: str,
    against: Sequence[str],
    run: RunConfig,
    progress: Progress | None = None,
) -> list[str]:
    """Decide what goes of the documents of `sets`, and return the name of a file in the folder `place` for each shard.

    Their signatures are written to `place` and stay there; those shards that have them are not signed again. `against` are folders of
    signatures of earlier runs: their documents come first, and nothing of them is decided.
    """
    store = Store(place)
    units = sign_sets(config.signing(), sets, store, run, progress)
    members, documents = members_of([*against, place], config.signing())
    own = members[len(members) - len(units)].first if units else documents
    gone, media = _compare(config, tuple(members), documents, store, run)
    parts = pictures_gone(config, media, gone, documents, own) if config.image_distance is not None else ()
    return _write(store, members, own, gone, parts)


def sign_sets(
    config: SigningSettings, sets: ShardSets, store: Store, run: RunConfig, progress: Progress | None
) -> list[Unit[Portion]]:
    """Write the signatures of all shards that have none; all shards are returned. Raises `ConfigError` where others lie there."""
    units = sets.units()
    shards = [{"sha256": unit.what.shard.sha256, "documents": unit.what.shard.documents} for unit in units]
    wanted = {"signing": config.model_dump(mode="json"), "shards": shards}
    if not store.exists(SETTINGS):
        store.write(SETTINGS, json.dumps(wanted, indent=1).encode())
    elif store.json(SETTINGS) != wanted:
        raise ConfigError(
            f"{store.location}: holds signatures of other documents or by other settings; remove it, or choose another folder"
        )
    left = [(number, unit) for number, unit in enumerate(units) if not store.exists(name_of(number, DOCUMENTS, "keys"))]
    bar = progress.add_task("signing", total=len(units), completed=len(units) - len(left)) if progress else None
    for _ in run_all(partial(_sign, config, sets, store.location, os.getcwd()), left, run.processes, run.ray):
        if progress and bar is not None:
            progress.advance(bar)
    return units


def _sign(config: SigningSettings, sets: ShardSets, place: str, folder: str, numbered: tuple[int, Unit[Portion]]) -> None:
    enter(folder)
    number, unit = numbered
    sign_shard(Store(place), number, (one for one in sets.documents(unit) if isinstance(one, Document)), config)


def members_of(places: Sequence[str], signing: SigningSettings) -> tuple[list[Member], int]:
    """The shards of folders of signatures, one after the other, and how many documents they have."""
    found: list[Member] = []
    first = 0
    for place in places:
        store = Store(place)
        try:
            known = store.json(SETTINGS)
        except DataError as problem:
            raise ConfigError(f"{problem}; expected a folder of signatures") from None
        if known["signing"] != signing.model_dump(mode="json"):
            raise ConfigError(f"{place}: signatures by other settings, {known['signing']}")
        for number, shard in enumerate(known["shards"]):
            if not store.exists(name_of(number, DOCUMENTS, "keys")):
                raise ConfigError(f"{place}: the signatures of shard {number} are missing; run to its end what makes them")
            found.append(Member(place, number, first))
            first += shard["documents"]
    return found, first


def _compare(
    config: DuplicateSettings, members: tuple[Member, ...], documents: int, store: Store, run: RunConfig
) -> tuple[dict[int, Gone], Media]:
    here, signing = os.getcwd(), config.signing()
    compared = Compared(members, None, config.image_distance or 0, config.keyed_on == "media", here)
    media = [pictures(members, config.image_distance or 0)]
    if config.sound_distance is not None:
        media.append(sounds(compared, config.sound_distance, run))
    pairs = np.zeros((0, 2), dtype=np.int64)
    if config.keyed_on != "text" and _any_media(members):
        groups = write_groups(store, members, media, documents)
        compared = Compared(members, store.location, compared.distance, compared.whatever_text, here)
        if config.keyed_on == "media":
            own = np.flatnonzero(groups)
            pairs = shared_key(groups[own], own)
    wanted = [*([0] if config.exact else []), *(range(1, signing.keys) if signing.bands else [])]
    pairs = unique_pairs(np.concatenate([pairs, document_pairs(compared, signing.keys, wanted, documents, run)]))
    scores = similarities(compared, pairs, run)
    return whole_documents(config, pairs, scores, compared.similarity), media[0]


def _any_media(members: Sequence[Member]) -> bool:
    return any((read_array(one.location, name_of(one.shard, DOCUMENTS, "rows"), ROW)["media"] > 0).any() for one in members)


def _write(store: Store, members: Sequence[Member], own: int, gone: dict[int, Gone], parts) -> list[str]:
    """The decisions on the documents of each shard from the document `own` on, by id."""
    decisions: dict[int, list[Decision]] = defaultdict(list)
    names = _ids(members, {one.keeper for number, one in gone.items() if number >= own})
    for number, one in gone.items():
        if number >= own:
            like = "" if one.rule == "exact" else f" (Jaccard {one.like:.2f})" if one.rule == "near_text" else " in its media"
            before = "equal to" if one.rule == "exact" else "like"
            decisions[number].append(Decision(None, one.rule, f"{before} {names[one.keeper]}{like}"))
    for number, decision in parts:
        decisions[number].append(decision)
    numbers = np.array(sorted(decisions), dtype=np.int64)
    found = []
    for at, member in enumerate(members):
        if member.first < own:
            continue
        end = members[at + 1].first if at + 1 < len(members) else None
        low, high = np.searchsorted(numbers, member.first), len(numbers) if end is None else np.searchsorted(numbers, end)
        ids = read_ids(member) if high > low else []
        told = {ids[number - member.first]: decisions[number] for number in numbers[low:high].tolist()}
        data = json.dumps(told).encode()
        name = f"{hashlib.sha256(data).hexdigest()[:16]}.decisions"
        store.write(name, data)
        found.append(name)
    return found


def read_decisions(place: str, name: str) -> dict[str, list[Decision]]:
    """What `find_copies` decided on the documents of a shard, by id."""
    return {key: [Decision(*one) for one in found] for key, found in Store(place).json(name).items()}


def _ids(members: Sequence[Member], wanted: set[int]) -> dict[int, str]:
    numbers = np.array(sorted(wanted), dtype=np.int64)
    found: dict[int, str] = {}
    for at, member in enumerate(members):
        end = members[at + 1].first if at + 1 < len(members) else None
        low, high = np.searchsorted(numbers, member.first), len(numbers) if end is None else np.searchsorted(numbers, end)
        if high > low:
            ids = read_ids(member)
            found |= {number: ids[number - member.first] for number in numbers[low:high].tolist()}
    return found
