"""Documents and pictures without their duplicates: exact, alike in text, alike to the eye. The first one stays."""

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
import pydantic
from rich.progress import Progress

from mmpt.config import Schema
from mmpt.data.curate.signatures import PERMUTATIONS, SCHEME, Signature, near_pairs, signature
from mmpt.data.engine.run import RunConfig, Summary, write_set
from mmpt.data.extra import need
from mmpt.data.lost import Documents, Lost
from mmpt.data.sources import shards
from mmpt.data.sources.base import Unit
from mmpt.document import Document

Decisions = dict[str, list[tuple[int | None, str, str]]]
"""Document id → (number of the part, None: the whole document; rule; reason) of all that goes."""


class DedupConfig(Schema):
    """`exact`: documents of equal content. `text`: a Jaccard similarity of word `ngram`s from which on texts are the same
    (0.8 and 13 in SlimPajama; None: texts are not compared), of at least `min_words` words. `image_distance`: bits of 64 in
    which the perceptual hashes of the same picture may differ (5 in mmc4; None: not compared); a picture that came before in
    its document goes, and one that is in more than `max_copies` documents goes everywhere (10 in mmc4; None: it stays).

    `scope` source compares the texts and contents of documents of one source alone.
    """

    exact: bool = True
    text: float | None = pydantic.Field(0.8, gt=0, le=1)
    ngram: int = pydantic.Field(13, ge=1)
    min_words: int = pydantic.Field(20, ge=1)
    image_distance: int | None = pydantic.Field(5, ge=0, le=16)
    max_copies: int | None = pydantic.Field(10, ge=1)
    scope: Literal["global", "source"] = "global"


class _Job(Schema):
    folders: tuple[str, ...]
    decisions: Path


def dedup(config: DedupConfig, folders: list[str], out: str, run: RunConfig, progress: Progress | None = None) -> Summary:
    """Write the documents of the sets `folders`, in order, without their duplicates, as the set `out`."""
    units = [
        Unit([number, unit.what], unit.size)
        for number, folder in enumerate(folders)
        for unit in shards.units(shards.ShardsConfig(folder=folder))
    ]
    work = partial(_signatures, tuple(folders), config.ngram, config.min_words)
    signatures: list[Signature] = []
    task = progress.add_task("comparing", total=len(units)) if progress else None
    with ProcessPoolExecutor(run.processes, mp_context=get_context("spawn")) as pool:
        for found in pool.map(work, units):
            signatures += found
            if progress:
                progress.advance(task)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "decisions.json"
        path.write_text(json.dumps(decide(config, signatures)))
        return write_set(
            out,
            read=read,
            config=_Job(folders=tuple(folders), decisions=path),
            units=units,
            built={
                "dedup": config.model_dump(mode="json"),
                "from": folders,
                "shards": [one for folder in folders for one in shards.hashes(folder)],
            },
            run=run,
            progress=progress,
            title="writing",
        )


def read(job: _Job, unit: Unit) -> Documents:
    """The documents of a shard but for what was decided to go."""
    return apply(_decisions(job.decisions), _documents(job.folders, unit))


def apply(decisions: Decisions, documents: Iterable[Document | Lost]) -> Documents:
    """The documents without the parts that go; one that loses all its parts goes whole."""
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


def decide(config: DedupConfig, signatures: list[Signature]) -> Decisions:
    """What goes, from the signatures of all documents in order: a pure function, whatever their shards were."""
    decisions: Decisions = defaultdict(list)
    gone = set()
    for number, rule, reason in (*_exact(config, signatures), *_alike_in_text(config, signatures)):
        if number not in gone:
            gone.add(number)
            decisions[signatures[number].id].append((None, rule, reason))
    if config.image_distance is not None:
        for number, place, rule, reason in _alike_to_the_eye(config, signatures, gone):
            decisions[signatures[number].id].append((place, rule, reason))
    return dict(decisions)


def _exact(config: DedupConfig, signatures: list[Signature]) -> Iterator[tuple[int, str, str]]:
    first: dict[tuple, str] = {}
    for number, one in enumerate(signatures if config.exact else ()):
        key = (one.content, one.source if config.scope == "source" else "")
        if key in first:
            yield number, "exact", f"equal to {first[key]}"
        else:
            first[key] = one.id


def _alike_in_text(config: DedupConfig, signatures: list[Signature]) -> Iterator[tuple[int, str, str]]:
    """Locality-sensitive hashing finds candidates, the share of equal MinHash values among 128 decides."""
    if config.text is None:
        return
    sketch = need("datasketch")
    indices: dict[str, object] = {}
    for number, one in enumerate(signatures):
        if one.text is None:
            continue
        scope = one.source if config.scope == "source" else ""
        if scope not in indices:
            indices[scope] = sketch.MinHashLSH(threshold=config.text, num_perm=PERMUTATIONS)
        minhash = sketch.MinHash(num_perm=PERMUTATIONS, hashvalues=one.text, scheme=SCHEME)
        for other in sorted(indices[scope].query(minhash)):
            similarity = float((signatures[other].text == one.text).mean())
            if similarity >= config.text:
                yield number, "near_text", f"like {signatures[other].id} (Jaccard about {similarity:.2f})"
                break
        else:
            indices[scope].insert(number, minhash, check_duplication=False)


def _alike_to_the_eye(config: DedupConfig, signatures: list[Signature], gone: set[int]) -> Iterator[tuple[int, int, str, str]]:
    places = [(n, place, hashed) for n, one in enumerate(signatures) if n not in gone for place, hashed in one.pictures]
    unique, inverse = np.unique(np.array([hashed for _, _, hashed in places], dtype=np.uint64), return_inverse=True)
    near: dict[int, set[int]] = defaultdict(set)
    for one, other in near_pairs(unique, config.image_distance).tolist():
        near[one].add(other)
        near[other].add(one)
    owners: dict[int, set[int]] = defaultdict(set)
    for (number, _, _), kind in zip(places, inverse.tolist(), strict=True):
        owners[kind].add(number)
    seen: dict[int, dict[int, int]] = defaultdict(dict)  # document → kind of picture → its first place there
    for (number, place, _), kind in zip(places, inverse.tolist(), strict=True):
        copies = set(owners[kind]).union(*(owners[other] for other in near[kind]))
        before = min((seen[number][other] for other in (kind, *near[kind]) if other in seen[number]), default=None)
        if config.max_copies is not None and len(copies) > config.max_copies:
            yield number, place, "image_copies", f"in {len(copies)} documents"
        elif before is not None:
            yield number, place, "image_in_document", f"looks like part {before}"
        else:
            seen[number][kind] = place


def _item(document_id: str, place: int | None) -> str:
    return document_id if place is None else f"{document_id}, part {place}"


def _documents(folders: tuple[str, ...], unit: Unit) -> Documents:
    number, what = unit.what
    return shards.read(shards.ShardsConfig(folder=folders[number]), Unit(what, unit.size))


def _signatures(folders: tuple[str, ...], ngram: int, min_words: int, unit: Unit) -> list[Signature]:
    return [signature(one, ngram, min_words) for one in _documents(folders, unit) if isinstance(one, Document)]


@lru_cache(maxsize=1)
def _decisions(path: Path) -> Decisions:
    return json.loads(path.read_text())
