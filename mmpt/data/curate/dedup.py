"""Documents and pictures without their duplicates: exact, alike in text, alike to the eye. The first one stays."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Literal

import numpy as np
import pydantic
from rich.progress import Progress

from mmpt.config import Schema
from mmpt.data.curate.signatures import PERMUTATIONS, SCHEME, Signature, near_pairs, signature
from mmpt.data.engine.run import RunConfig, Summary, write_set
from mmpt.data.engine.task import enter
from mmpt.data.engine.workers import run_all
from mmpt.data.extra import need
from mmpt.data.lost import Documents, Lost
from mmpt.data.sources import shards
from mmpt.data.sources.base import Unit
from mmpt.document import Document

Decision = tuple[int | None, str, str]
"""(Number of the part, None: the whole document; rule; reason) of something that goes."""


class DedupConfig(Schema):
    """`exact`: documents of equal content. `text`: a Jaccard similarity of word `ngram`s from which on texts are the same
    (0.8 and 13 in SlimPajama; None: texts are not compared), of at least `min_words` words. A sentence that another speaker says,
    or a caption of another picture, is no duplicate: documents with media are compared only where these are alike too, picture
    by picture and byte by byte of the speech. `image_distance`: bits of 64 in which the perceptual hashes of the same picture may
    differ (5 in mmc4; None: not compared); a picture that came before in its document goes, and one that is in more than
    `max_copies` documents goes everywhere (10 in mmc4; None: it stays).

    `scope` source compares the texts and contents of documents of one source alone.
    """

    exact: bool = True
    text: float | None = pydantic.Field(0.8, gt=0, le=1)
    ngram: int = pydantic.Field(13, ge=1)
    min_words: int = pydantic.Field(20, ge=1)
    image_distance: int | None = pydantic.Field(5, ge=0, le=16)
    max_copies: int | None = pydantic.Field(10, ge=1)
    scope: Literal["global", "source"] = "global"


class _Folders(Schema):
    folders: tuple[str, ...]


def dedup(config: DedupConfig, folders: list[str], out: str, run: RunConfig, progress: Progress | None = None) -> Summary:
    """Write the documents of the sets `folders`, in order, without their duplicates, as the set `out`."""
    units = [
        Unit([number, unit.what], unit.size)
        for number, folder in enumerate(folders)
        for unit in shards.units(shards.ShardsConfig(folder=folder))
    ]
    work = partial(_signatures, _Folders(folders=tuple(folders)), os.getcwd(), config.ngram, config.min_words)
    task = progress.add_task("comparing", total=len(units)) if progress else None
    found: dict[int, list[Signature]] = {}
    for (number, _), signatures in run_all(work, list(enumerate(units)), run.processes, run.ray):
        found[number] = signatures
        if progress:
            progress.advance(task)
    signatures = [one for number in range(len(units)) for one in found[number]]
    return write_set(
        out,
        read=read,
        config=_Folders(folders=tuple(folders)),
        units=_with_decisions(units, [found[number] for number in range(len(units))], decide(config, signatures)),
        built={
            "dedup": config.model_dump(mode="json"),
            "from": folders,
            "shards": [one for folder in folders for one in shards.hashes(folder)],
        },
        run=run,
        progress=progress,
        title="writing",
    )


def _with_decisions(units: list[Unit], signatures: list[list[Signature]], decisions: dict[int, list[Decision]]) -> list[Unit]:
    """Each unit with what was decided on its documents, so that a worker on any machine has it: {document id: decisions}."""
    found, number = [], 0
    for unit, own in zip(units, signatures, strict=True):
        gone = {one.id: decisions[at] for at, one in enumerate(own, start=number) if at in decisions}
        found.append(Unit([*unit.what, gone], unit.size))
        number += len(own)
    return found


def read(config: _Folders, unit: Unit) -> Documents:
    """The documents of a shard but for what was decided to go."""
    number, what, decisions = unit.what
    return apply(decisions, _documents(config, Unit([number, what], unit.size)))


def apply(decisions: dict[str, list[Decision]], documents: Iterable[Document | Lost]) -> Documents:
    """The documents without the parts that go; one that loses all its parts goes whole. `decisions` are by document id."""
    for document in documents:
        if isinstance(document, Lost) or document.id not in decisions:
            yield document
            continue
        gone = {place: Lost(_item(document.id, place), reason, document.id, place is None, rule)
                for place, rule, reason in decisions[document.id]}  # fmt: skip
        parts = tuple(part for place, part in enumerate(document.parts) if place not in gone)
        if None in gone:
            yield gone[None]
        elif not parts:
            last = next(iter(gone.values()))
            yield Lost(document.id, f"no part left: {last.reason}", document.id, True, last.rule)
        else:
            yield from gone.values()
            yield Document(document.id, document.source, parts, document.meta)


def decide(config: DedupConfig, signatures: list[Signature]) -> dict[int, list[Decision]]:
    """Number of a document → what of it goes, from the signatures of all in order: a pure function, whatever their shards."""
    decisions: dict[int, list[Decision]] = defaultdict(list)
    hashes = np.unique(np.array([hashed for one in signatures for _, hashed in one.pictures], dtype=np.uint64))
    pairs = near_pairs(hashes, config.image_distance or 0)
    for number, rule, reason in (*_exact(config, signatures), *_alike_in_text(config, signatures, hashes, pairs)):
        if number not in decisions:
            decisions[number].append((None, rule, reason))
    if config.image_distance is not None:
        for number, place, rule, reason in list(_alike_to_the_eye(config, signatures, frozenset(decisions), hashes, pairs)):
            decisions[number].append((place, rule, reason))
    return dict(decisions)


def _exact(config: DedupConfig, signatures: list[Signature]) -> Iterator[tuple[int, str, str]]:
    first: dict[tuple, str] = {}
    for number, one in enumerate(signatures if config.exact else ()):
        key = (one.content, one.source if config.scope == "source" else "")
        if key in first:
            yield number, "exact", f"equal to {first[key]}"
        else:
            first[key] = one.id


def _alike_in_text(
    config: DedupConfig, signatures: list[Signature], hashes: np.ndarray, pairs: np.ndarray
) -> Iterator[tuple[int, str, str]]:
    """Locality-sensitive hashing finds candidates, the share of equal MinHash values among 128 decides.

    Only documents whose media may be alike are in one index: equal speech, pictures of the same groups of near ones.
    """
    if config.text is None:
        return
    sketch = need("datasketch")
    group = _groups(len(hashes), pairs)
    buckets: dict[tuple, list[int]] = defaultdict(list)
    for number, one in enumerate(signatures):
        if one.text is not None:
            kinds = group[np.searchsorted(hashes, np.array([hashed for _, hashed in one.pictures], dtype=np.uint64))]
            buckets[one.source if config.scope == "source" else "", one.others, tuple(kinds.tolist())].append(number)
    found: list[tuple[int, str, str]] = []
    bands = sketch.MinHashLSH(threshold=config.text, num_perm=PERMUTATIONS)
    for members in buckets.values():
        index = sketch.MinHashLSH(num_perm=PERMUTATIONS, params=(bands.b, bands.r)) if len(members) > 1 else None
        for number in members if index else ():
            one = signatures[number]
            minhash = sketch.MinHash(num_perm=PERMUTATIONS, hashvalues=one.text, scheme=SCHEME)
            for other in sorted(index.query(minhash)):
                similarity = float((signatures[other].text == one.text).mean())
                if similarity >= config.text and _same_media(one, signatures[other], config.image_distance or 0):
                    found.append((number, "near_text", f"like {signatures[other].id} (Jaccard about {similarity:.2f})"))
                    break
            else:
                index.insert(number, minhash, check_duplication=False)
    yield from sorted(found)


def _groups(count: int, pairs: np.ndarray) -> np.ndarray:
    """Number int32 [count] of the group of each picture, those of a pair being in one."""
    from scipy.sparse import coo_array  # scipy takes a second that `--help` should not
    from scipy.sparse.csgraph import connected_components

    if not count:
        return np.zeros(0, dtype=np.int32)
    ends = (pairs[:, 0], pairs[:, 1])
    return connected_components(coo_array((np.ones(len(pairs), dtype=bool), ends), shape=(count, count)), directed=False)[1]


def _same_media(one: Signature, other: Signature, distance: int) -> bool:
    hashes = [np.array([hashed for _, hashed in signature.pictures], dtype=np.uint64) for signature in (one, other)]
    return one.others == other.others and bool((np.bitwise_count(hashes[0] ^ hashes[1]) <= distance).all())


def _alike_to_the_eye(
    config: DedupConfig, signatures: list[Signature], gone: frozenset[int], hashes: np.ndarray, pairs: np.ndarray
) -> Iterator[tuple[int, int, str, str]]:
    near: dict[int, set[int]] = defaultdict(set)
    for one, other in pairs.tolist():
        near[one].add(other)
        near[other].add(one)
    places = [(n, place, hashed) for n, one in enumerate(signatures) if n not in gone for place, hashed in one.pictures]
    kinds = np.searchsorted(hashes, np.array([hashed for _, _, hashed in places], dtype=np.uint64)).tolist()
    owners: dict[int, set[int]] = defaultdict(set)
    for (number, _, _), kind in zip(places, kinds, strict=True):
        owners[kind].add(number)
    copies = {kind: len(own.union(*(owners[other] for other in near[kind] if other in owners))) for kind, own in owners.items()}
    seen: dict[int, dict[int, int]] = defaultdict(dict)  # document → kind of picture → its first place there
    for (number, place, _), kind in zip(places, kinds, strict=True):
        before = min((seen[number][other] for other in (kind, *near[kind]) if other in seen[number]), default=None)
        if config.max_copies is not None and copies[kind] > config.max_copies:
            yield number, place, "image_copies", f"in {copies[kind]} documents"
        elif before is not None:
            yield number, place, "image_in_document", f"looks like part {before}"
        else:
            seen[number][kind] = place


def _item(document_id: str, place: int | None) -> str:
    return document_id if place is None else f"{document_id}, part {place}"


def _documents(config: _Folders, unit: Unit) -> Documents:
    number, what = unit.what
    return shards.read(shards.ShardsConfig(folder=config.folders[number]), Unit(what, unit.size))


def _signatures(config: _Folders, folder: str, ngram: int, min_words: int, numbered: tuple[int, Unit]) -> list[Signature]:
    enter(folder)
    return [signature(one, ngram, min_words) for one in _documents(config, numbered[1]) if isinstance(one, Document)]
