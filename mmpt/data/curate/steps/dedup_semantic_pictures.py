"""Documents without the pictures that show the same, by embeddings of a vision tower."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import ClassVar

import pydantic
from rich.progress import Progress

from mmpt.config import Schema
from mmpt.data.curate.copies.clusters import VECTORS, ClusterSettings, alike, dim_of, names
from mmpt.data.curate.copies.decisions import Decision, apply
from mmpt.data.curate.copies.find import read_decisions
from mmpt.data.curate.copies.sign import ids_of, members_of, shares, sign_sets, write_decisions
from mmpt.data.curate.portions import Portion, ShardSets
from mmpt.data.curate.steps import Step
from mmpt.data.engine.run import RunConfig
from mmpt.data.lost import Lost
from mmpt.data.store import Store
from mmpt.data.unit import Unit
from mmpt.document import Document, Image
from mmpt.tokenizers.image.towers import PublishedTower

Told = dict[str, list[Decision]]
"""Of the documents of a shard of which something goes, by id: what was decided."""


class PictureEmbeddingSettings(Schema):
    """What makes a vector of a picture."""

    tower: PublishedTower
    """A vision tower with published weights; a picture's embedding is the model's own (open_clip), else the mean of its features,
    of length 1."""
    side: int = pydantic.Field(default=224, ge=1)
    """Pixels of the square that a picture is squashed to."""


class DedupSemanticPictures(Step, ClusterSettings, PictureEmbeddingSettings):
    """SemDeDup on pictures: embeddings in clusters of k-means, and in each of those the ones whose cosine with another is high go
    (Abbas et al. 2023, arXiv:2303.09540, section 4, on LAION): crops, other codecs, sizes and colours that hashes do not know.

    A picture goes from its document, and the rest stays in order. Embeddings lie on disk, in OUT.vectors.
    """

    keeps_documents: ClassVar = True

    whole: bool = False
    """Whether a document of whose pictures none is left goes whole, as a pair of picture and caption does in the paper; else its
    texts stay."""

    def prepare(self, sets: ShardSets, run: RunConfig, progress: Progress | None, out: str) -> list[Unit[Portion]]:
        """Each shard with the name of the file that says what goes of it."""
        settings, store = PictureEmbeddingSettings(tower=self.tower, side=self.side), Store(_place(out))
        alone = run.model_copy(update={"processes": 1})  # a network has all cores or a GPU to itself
        units = sign_sets(_sign, settings, sets, store, VECTORS, alone, progress)
        members, first = [], 0
        for one in members_of([*self.against, store.location], settings, VECTORS)[0]:
            members.append(replace(one, first=first))  # by pictures, not by documents
            first += len(names(one))
        own = members[len(members) - len(units) :]
        start = own[0].first if own else first
        gone = alike(self, members, first, start, dim_of(members), store.location, run)
        known = ids_of(members, VECTORS, {number for one in gone for number in one[:2]})
        decisions = {}
        for number, keeper, cosine in gone:
            like, part = known[keeper]
            decisions[number] = Decision(known[number][1], "semantic", f"like {like}, part {part} (cosine {cosine:.3f})")
        files = []
        for _, numbers in shares(own, decisions):
            told: Told = defaultdict(list)
            for number in numbers:
                told[known[number][0]].append(decisions[number])
            files.append(write_decisions(store, json.dumps(told).encode()))
        return [
            Unit(Portion(unit.what.folder, unit.what.shard, name), unit.size) for unit, name in zip(units, files, strict=True)
        ]

    def recall(self, told: str, out: str) -> Told:
        """The decisions in a file."""
        return read_decisions(_place(out), told)

    def run(self, documents: Iterable[Document | Lost], told: Told | None = None) -> Iterator[Document | Lost]:
        """The documents of a shard but for the pictures that go."""
        told = told or {}
        return apply(told, (self._whole(one, told) for one in documents)) if self.whole else apply(told, documents)

    def _whole(self, document: Document | Lost, told: Told) -> Document | Lost:
        """Lost whole where all its pictures go."""
        if isinstance(document, Lost) or not (found := told.get(document.id)):
            return document
        if len(found) < sum(isinstance(part, Image) for part in document.parts):
            return document
        return Lost(document.id, f"its pictures: {found[0].reason}", document.id, True, found[0].rule)


def _sign(settings: PictureEmbeddingSettings, store: Store, shard: int, documents: Iterable[Document]) -> None:
    from mmpt.data.curate.steps._dedup_semantic_pictures import sign

    sign(settings, store, shard, documents)


def _place(out: str) -> str:
    """Where the embeddings lie."""
    return f"{out}.vectors"
