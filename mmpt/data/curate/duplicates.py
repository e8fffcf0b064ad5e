"""Which documents and pictures are duplicates, from their signatures alone: a pure function, whatever their shards."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pydantic

from mmpt.config import Schema
from mmpt.data.curate.signatures import PERMUTATIONS, SCHEME, Signature, near_pairs
from mmpt.data.extra import need
from mmpt.data.lost import Lost
from mmpt.document import Document


class Decision(NamedTuple):
    """Something of a document that goes: the part number `place`, None: all of it; by which rule, and why."""

    place: int | None
    rule: str
    reason: str


class DuplicateSettings(Schema):
    """What counts as the same. The first of several stays, in the order in which they come."""

    exact: bool = True
    """Whether documents of equal content are duplicates."""
    text: float | None = pydantic.Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of word n-grams from which on texts are the same (0.8 in SlimPajama); None: texts are not compared."""
    ngram: int = pydantic.Field(default=13, ge=1)
    """Words of an n-gram (13 in SlimPajama)."""
    min_words: int = pydantic.Field(default=20, ge=1)
    """Texts of fewer words are not compared."""
    image_distance: int | None = pydantic.Field(default=5, ge=0, le=16)
    """Bits of 64 in which the perceptual hashes of the same picture may differ (5 in mmc4); None: pictures are not compared. One
    that came before in its document goes."""
    max_copies: int | None = pydantic.Field(default=10, ge=1)
    """A picture that is in more documents goes everywhere (10 in mmc4); None: it stays."""
    scope: Literal["global", "source"] = "global"
    """source: texts and contents are compared with those of documents of the same source alone."""


def apply(decisions: dict[str, list[Decision]], documents: Iterable[Document | Lost]) -> Iterator[Document | Lost]:
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


def decide(config: DuplicateSettings, signatures: Sequence[Signature]) -> dict[int, list[Decision]]:
    """Number of a document → what of it goes, from the signatures of all in order: a pure function, whatever their shards."""
    decisions: dict[int, list[Decision]] = defaultdict(list)
    # Every picture that there is, once: pictures are known by their place in this list from here on.
    hashes = np.unique(np.array([hashed for one in signatures for _, hashed in one.pictures], dtype=np.uint64))
    pairs = near_pairs(hashes, config.image_distance or 0)
    for number, rule, reason in (*_exact(config, signatures), *_alike_in_text(config, signatures, hashes, pairs)):
        if number not in decisions:
            decisions[number].append(Decision(None, rule, reason))
    if config.image_distance is not None:
        # Copies are counted among the documents that stay.
        for number, place, rule, reason in _alike_to_the_eye(config, signatures, frozenset(decisions), hashes, pairs):
            decisions[number].append(Decision(place, rule, reason))
    return dict(decisions)


def _exact(config: DuplicateSettings, signatures: Sequence[Signature]) -> Iterator[tuple[int, str, str]]:
    first: dict[tuple[bytes, str], str] = {}
    for number, one in enumerate(signatures if config.exact else ()):
        key = (one.content, one.source if config.scope == "source" else "")
        if key in first:
            yield number, "exact", f"equal to {first[key]}"
        else:
            first[key] = one.id


def _alike_in_text(
    config: DuplicateSettings, signatures: Sequence[Signature], hashes: np.ndarray, pairs: np.ndarray
) -> Iterator[tuple[int, str, str]]:
    """Locality-sensitive hashing finds candidates, the share of equal MinHash values among 128 decides.

    Only documents whose media may be alike are in one index: equal speech, pictures of the same groups of near ones.
    """
    if config.text is None:
        return
    sketch = need("datasketch")
    group = _groups(len(hashes), pairs)
    # In one bucket are documents of the same source (where that counts), with equal speech, and with pictures of the same groups:
    # a caption of another picture, or a sentence that another speaker says, is no duplicate and is never compared.
    buckets: dict[tuple[str, bytes, tuple[int, ...]], list[tuple[int, np.ndarray]]] = defaultdict(list)
    for number, one in enumerate(signatures):
        if one.text is not None:
            kinds = group[np.searchsorted(hashes, np.array([hashed for _, hashed in one.pictures], dtype=np.uint64))]
            buckets[one.source if config.scope == "source" else "", one.others, tuple(kinds.tolist())].append((number, one.text))
    found: list[tuple[int, str, str]] = []
    bands = sketch.MinHashLSH(threshold=config.text, num_perm=PERMUTATIONS)
    for members in buckets.values():
        if len(members) < 2:
            continue
        index = sketch.MinHashLSH(num_perm=PERMUTATIONS, params=(bands.b, bands.r))
        texts = dict(members)
        for number, text in members:
            minhash = sketch.MinHash(num_perm=PERMUTATIONS, hashvalues=text, scheme=SCHEME)
            for other in sorted(index.query(minhash)):
                # The share of equal MinHash values is an unbiased estimate of the Jaccard similarity (Broder 1997).
                similarity = float((texts[other] == text).mean())
                same = _same_media(signatures[number], signatures[other], config.image_distance or 0)
                if similarity >= config.text and same:
                    found.append((number, "near_text", f"like {signatures[other].id} (Jaccard about {similarity:.2f})"))
                    break
            else:  # only what stays is in the index, so nothing goes for the sake of what went itself
                index.insert(number, minhash, check_duplication=False)
    yield from sorted(found)


def _groups(count: int, pairs: np.ndarray) -> np.ndarray:
    """Number int32 [count] of the group of each picture, those of a pair being in one."""
    from scipy.sparse import coo_array  # scipy takes a second that `--help` should not
    from scipy.sparse.csgraph import connected_components

    if not count:
        return np.zeros(0, dtype=np.int32)
    ends = (pairs[:, 0], pairs[:, 1])
    graph: Any = coo_array((np.ones(len(pairs), dtype=bool), ends), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def _same_media(one: Signature, other: Signature, distance: int) -> bool:
    hashes = [np.array([hashed for _, hashed in signature.pictures], dtype=np.uint64) for signature in (one, other)]
    return one.others == other.others and bool((np.bitwise_count(hashes[0] ^ hashes[1]) <= distance).all())


def _alike_to_the_eye(
    config: DuplicateSettings, signatures: Sequence[Signature], gone: frozenset[int], hashes: np.ndarray, pairs: np.ndarray
) -> Iterator[tuple[int, int, str, str]]:
    near: dict[int, set[int]] = defaultdict(set)
    for one, other in pairs.tolist():
        near[one].add(other)
        near[other].add(one)
    places = [(n, place, hashed) for n, one in enumerate(signatures) if n not in gone for place, hashed in one.pictures]
    kinds = np.searchsorted(hashes, np.array([hashed for _, _, hashed in places], dtype=np.uint64)).tolist()
    owners: dict[int, set[int]] = defaultdict(set)  # kind of picture → the documents it is in
    for (number, _, _), kind in zip(places, kinds, strict=True):
        owners[kind].add(number)
    # A kind and those near to it count together; near is not transitive, so each kind has a count of its own.
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
