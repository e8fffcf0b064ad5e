"""All copies in document sets: signatures of each shard on disk, pairs of alike ones, and what goes, in a file for each shard."""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from rich.progress import Progress

from mmpt.data.curate.copies.buckets import Member, name_of, read_array, shared_key, unique_pairs
from mmpt.data.curate.copies.decisions import Decision, DuplicateSettings, Gone, pictures_gone, whole_documents
from mmpt.data.curate.copies.pairs import Compared, Media, document_pairs, pictures, similarities, sounds, write_groups
from mmpt.data.curate.copies.sign import ids_of, members_of, shares, sign_sets, write_decisions
from mmpt.data.curate.copies.signatures import DOCUMENTS, ROW, sign_shard
from mmpt.data.curate.portions import ShardSets
from mmpt.data.engine.run import RunConfig
from mmpt.data.store import Store

_REASONS = {"exact": "equal to {}", "near_text": "like {} (Jaccard {:.2f})", "near_media": "like {} in its media"}


def find_copies(
    config: DuplicateSettings,
    sets: ShardSets,
    place: str,
    against: Sequence[str],
    run: RunConfig,
    progress: Progress | None = None,
) -> list[str]:
    """Decide what goes of the documents of `sets`, and return the name of a file in the folder `place` for each shard.

    Their signatures are written to `place` and stay there; those shards that have them are not signed again. `against` are
    folders of signatures of earlier runs: their documents come first, and nothing of them is decided.
    """
    store = Store(place)
    signing = config.signing()
    units = sign_sets(sign_shard, signing, sets, store, DOCUMENTS, run, progress)
    members, documents = members_of([*against, place], signing, DOCUMENTS)
    own = members[len(members) - len(units)].first if units else documents
    gone, media = _compare(config, tuple(members), documents, store, run)
    parts = pictures_gone(config, media, gone, documents, own) if config.image_distance is not None else ()
    return _write(store, members, own, gone, parts)


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


def _write(
    store: Store, members: Sequence[Member], own: int, gone: dict[int, Gone], parts: Iterable[tuple[int, Decision]]
) -> list[str]:
    """The decisions on the documents of each shard from the document `own` on, by id."""
    decisions: dict[int, list[Decision]] = defaultdict(list)
    names = ids_of(members, DOCUMENTS, {one.keeper for number, one in gone.items() if number >= own})
    for number, one in gone.items():
        if number >= own:
            decisions[number].append(Decision(None, one.rule, _REASONS[one.rule].format(names[one.keeper], one.like)))
    for number, decision in parts:
        decisions[number].append(decision)
    ids = ids_of(members, DOCUMENTS, decisions)
    return [
        write_decisions(store, json.dumps({ids[number]: decisions[number] for number in numbers}).encode())
        for _, numbers in shares([one for one in members if one.first >= own], decisions)
    ]


def read_decisions(place: str, name: str) -> dict[str, list[Decision]]:
    """What `find_copies` decided on the documents of a shard, by id."""
    return {key: [Decision(*one) for one in found] for key, found in Store(place).json(name).items()}
