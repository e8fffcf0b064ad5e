"""Texts without the lines or paragraphs that came before in the set."""

import dataclasses
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import pydantic
from rich.progress import Progress

from mmpt.config import Schema
from mmpt.data.curate.copies.buckets import Member, key_count, read_array, write_keys
from mmpt.data.curate.copies.minhash import hash_bytes
from mmpt.data.curate.copies.pairs import all_pairs
from mmpt.data.curate.copies.sign import members_of, sign_sets, write_decisions
from mmpt.data.curate.portions import Portion, ShardSets
from mmpt.data.curate.steps import Step
from mmpt.data.engine.run import RunConfig
from mmpt.data.lost import Lost
from mmpt.data.store import Store
from mmpt.data.unit import Unit
from mmpt.document import Document, Text

LINES = "lines"
_ENDS = {"line": re.compile(r"\n"), "paragraph": re.compile(r"\n[^\S\n]*\n\s*")}
_DIGIT, _WORD = re.compile(r"\d"), re.compile(r"\w+")


class LineSettings(Schema):
    """What a piece of text is, and which count."""

    unit: Literal["line", "paragraph"] = "line"
    """What is compared: lines, or paragraphs, between which a line is empty."""
    min_words: int = pydantic.Field(default=3, ge=1)
    """Pieces of fewer words stay, however often they come."""


class DedupLines(Step, LineSettings):
    """Each line or paragraph once, as CCNet takes paragraphs out that were seen (Wenzek et al. 2020, arXiv:1911.00359, section
    3.1), Dolma too (Soldaini et al. 2024, arXiv:2402.00159), and RefinedWeb lines (Penedo et al. 2023, arXiv:2306.01116).

    Pieces are the same that are so without case, accents and punctuation, and with 0 for every digit. The first one stays, in the
    order in which they come, within a document too. Hashes lie on disk, in OUT.lines.
    """

    keeps_documents: ClassVar = True

    against: tuple[str, ...] = ()
    """Folders of hashes that earlier runs have kept (OUT.lines): what is in those sets goes from this one."""

    def prepare(self, sets: ShardSets, run: RunConfig, progress: Progress | None, out: str) -> list[Unit[Portion]]:
        """Each shard with the name of the file that says which of its pieces came before."""
        settings = LineSettings(unit=self.unit, min_words=self.min_words)
        store = Store(_place(out))
        units = sign_sets(_sign, settings, sets, store, LINES, run, progress)
        shards, _ = members_of([*self.against, store.location], settings, LINES)
        members, items = [], 0
        for one in shards:
            members.append(Member(one.location, one.shard, items))
            items += key_count(one.location, one.shard, LINES, 1)
        gone = np.unique(all_pairs(members, LINES, 1, [0], items, None, run)[:, 1])
        own = members[len(members) - len(units) :]
        bounds = np.searchsorted(gone, [*(one.first for one in own), items])
        return [
            Unit(
                Portion(unit.what.folder, unit.what.shard, write_decisions(store, (gone[low:high] - one.first).tobytes())),
                unit.size,
            )
            for unit, one, low, high in zip(units, own, bounds[:-1], bounds[1:], strict=True)
        ]

    def recall(self, told: str, out: str) -> np.ndarray:
        """Numbers of the pieces of a shard that go."""
        return read_array(_place(out), told, "<i8")

    def run(self, documents: Iterable[Document | Lost], told: Sequence[int] | np.ndarray = ()) -> Iterator[Document | Lost]:
        """The documents without the pieces that go; one that has no part left goes whole."""
        gone, number = frozenset(np.asarray(told, dtype=np.int64).tolist()), 0
        for document in documents:
            if isinstance(document, Lost):
                yield document
                continue
            found = pieces(document, self)
            lost = [one for at, one in enumerate(found, number) if at in gone]
            number += len(found)
            yield from _without(document, lost, self.unit) if lost else [document]


class Piece(NamedTuple):
    """A line or paragraph: part, where it begins and ends there (behind what stands between it and the next), and its hash."""

    place: int
    start: int
    end: int
    key: int


def pieces(document: Document, settings: LineSettings) -> list[Piece]:
    """Those of the texts of a document that count, in order."""
    found = []
    for place, part in enumerate(document.parts):
        if not isinstance(part, Text):
            continue
        ends = [match.end() for match in _ENDS[settings.unit].finditer(part.text)]
        for start, end in zip([0, *ends], [*ends, len(part.text)], strict=True):
            words = _WORD.findall(normalised(part.text[start:end]))
            if len(words) >= settings.min_words:
                found.append(Piece(place, start, end, max(hash_bytes(" ".join(words).encode("utf-8", "surrogatepass")), 1)))
    return found


def normalised(text: str) -> str:
    """Without case and accents, 0 for every digit."""
    plain = "".join(one for one in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(one))
    return _DIGIT.sub("0", plain)


def _sign(settings: LineSettings, store: Store, shard: int, documents: Iterable[Document]) -> None:
    keys = np.array([piece.key for document in documents for piece in pieces(document, settings)], dtype=np.uint64)
    write_keys(store, shard, LINES, keys.reshape(-1, 1))


def _without(document: Document, lost: Sequence[Piece], unit: str) -> Iterator[Document | Lost]:
    parts = []
    for place, part in enumerate(document.parts):
        own = [one for one in lost if one.place == place]
        if not own or not isinstance(part, Text):
            parts.append(part)
            continue
        first = part.text[own[0].start : own[0].end].strip()
        yield Lost(
            f"{document.id}, part {place}", f"{len(own)} came before: {first[:80]!r}", document.id, False, f"{unit}_before"
        )
        left, at = [], 0
        for one in own:
            left.append(part.text[at : one.start])
            at = one.end
        text = "".join([*left, part.text[at:]])
        # Breaks that stood between what went and what stays are no longer between anything.
        text = text.lstrip("\n") if own[0].start == 0 else text
        text = text.rstrip() if at == len(part.text) else text
        if text.strip():
            parts.append(dataclasses.replace(part, text=text))
    if parts:
        yield dataclasses.replace(document, parts=tuple(parts))
    else:
        yield Lost(document.id, f"no part left: each {unit} came before", document.id, True, f"{unit}_before")


def _place(out: str) -> str:
    """Where the hashes lie."""
    return f"{out}.lines"
