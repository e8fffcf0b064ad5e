"""What of the documents goes, of pairs of alike ones: a pure function of the pairs, whatever the shards and processes."""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import pydantic

from mmpt.config import Schema
from mmpt.data.curate.copies.minhash import bands_for
from mmpt.data.curate.copies.pairs import EQUAL, Media, copies_of
from mmpt.data.curate.copies.signatures import SigningSettings
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
    keyed_on: Literal["both", "text", "media"] = "both"
    """What of two documents must be alike. both: text and media; text: whatever the media; media: pictures and recordings one by
    one, whatever the text."""
    image_distance: int | None = pydantic.Field(default=5, ge=0, le=16)
    """Bits of 64 in which the perceptual hashes of the same picture may differ (5 in mmc4); None: only pictures of equal bytes
    are the same. One that came before in its document goes."""
    sound_distance: float | None = pydantic.Field(default=None, ge=0, lt=0.5)
    """Share of the bits in which fingerprints of the same recording may differ (0.35 in Haitsma and Kalker 2002); None: only
    recordings of equal bytes are the same."""
    max_copies: int | None = pydantic.Field(default=10, ge=1)
    """A picture that is in more documents goes everywhere (10 in mmc4); None: it stays."""
    scope: Literal["global", "source"] = "global"
    """source: texts and contents are compared with those of documents of the same source alone."""

    def signing(self) -> SigningSettings:
        """What the signatures must hold for it."""
        bands, rows = bands_for(self.text) if self.text is not None and self.keyed_on != "media" else (0, 0)
        return SigningSettings(
            ngram=self.ngram, min_words=self.min_words, scope=self.scope, bands=bands, rows=rows,
            pictures=self.image_distance is not None, sounds=self.sound_distance is not None,
        )  # fmt: skip


class Gone(NamedTuple):
    """That a document goes by `rule`, for the sake of the document number `keeper`, which is so `like` it."""

    rule: str
    keeper: int
    like: float


def whole_documents(
    config: DuplicateSettings, pairs: np.ndarray, scores: np.ndarray, compare: Callable[[int, int], float]
) -> dict[int, Gone]:
    """Number of a document → why it goes, of the pairs int64 [pairs, 2] by their later document and their similarities.

    One goes that is like one that stays, and nothing goes for the sake of what went itself: where the other went, the one that it
    went for is compared. So each that goes has one like it among those that stay.
    """
    rule, least = ("near_media", 1.0) if config.keyed_on == "media" else ("near_text", config.text or 1.0)
    keep = scores >= least
    pairs, scores = pairs[keep], scores[keep]
    gone: dict[int, Gone] = {}
    bounds = np.flatnonzero(np.diff(pairs[:, 1], prepend=-1)).tolist()
    for start, end in pairwise([*bounds, len(pairs)]):
        number, equal = int(pairs[start, 1]), int(scores[start:end].argmax())
        if config.exact and scores[start + equal] == EQUAL:
            gone[number] = Gone("exact", int(pairs[start + equal, 0]), 1.0)
            continue
        known: dict[int, float | None] = {}
        for other, score in zip(pairs[start:end, 0].tolist(), scores[start:end].tolist(), strict=True):
            keeper = other
            while keeper in gone:
                keeper = gone[keeper].keeper
            if keeper == other:
                known[keeper] = score
            else:
                known.setdefault(keeper, None)
        for keeper in sorted(known):
            score = known[keeper]
            if score is None:
                score = compare(keeper, number)
            if score >= least:
                gone[number] = Gone(rule, keeper, min(score, 1.0))
                break
    return gone


def pictures_gone(
    config: DuplicateSettings, media: Media, gone: Iterable[int], documents: int, first: int
) -> Iterator[tuple[int, Decision]]:
    """(Document, what of it goes) of the documents from the number `first` on: pictures that are in too many of the documents
    that stay, and those that came before in their document."""
    stays = np.ones(documents, dtype=bool)
    stays[list(gone)] = False
    copies = copies_of(media, stays)
    most = documents if config.max_copies is None else config.max_copies
    both = np.concatenate([media.near, media.near[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    starts = np.searchsorted(both[:, 0], np.arange(len(media.group) + 1))
    number, seen = -1, dict[int, int]()  # kind of picture → its first place in the document
    rows = np.flatnonzero(stays[media.document] & (media.document >= first))
    several = np.bincount(media.document[rows], minlength=1) > 1 if len(rows) else np.zeros(1, dtype=bool)
    rows = rows[(copies[media.kind[rows]] > most) | several[media.document[rows]]]
    for document, place, kind in zip(
        media.document[rows].tolist(), media.place[rows].tolist(), media.kind[rows].tolist(), strict=True
    ):
        if document != number:
            number, seen = document, {}
        if copies[kind] > most:
            yield document, Decision(place, "image_copies", f"in {copies[kind]} documents")
            continue
        near = (kind, *both[starts[kind] : starts[kind + 1], 1].tolist()) if seen else ()
        before = min((seen[other] for other in near if other in seen), default=None)
        if before is not None:
            yield document, Decision(place, "image_in_document", f"looks like part {before}")
        else:
            seen[kind] = place


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


def _item(document_id: str, place: int | None) -> str:
    return document_id if place is None else f"{document_id}, part {place}"
