"""Documents without those that say the same, by embeddings of their texts."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import ClassVar

import numpy as np
import pydantic
from rich.progress import Progress

from mmpt.config import Schema
from mmpt.data.curate.copies.buckets import name_of
from mmpt.data.curate.copies.clusters import VECTORS, ClusterSettings, alike, dim_of
from mmpt.data.curate.copies.sign import ids_of, members_of, shares, sign_sets, write_decisions
from mmpt.data.curate.portions import Portion, ShardSets
from mmpt.data.curate.scorers import text_of
from mmpt.data.curate.steps import Step
from mmpt.data.engine.run import RunConfig
from mmpt.data.lost import Lost
from mmpt.data.store import Store
from mmpt.data.unit import Unit
from mmpt.document import Document

BATCH = 256
"""Texts that are embedded at once."""


class EmbeddingSettings(Schema):
    """What makes a vector of a text."""

    model: str
    """Folder or Hugging Face name of an encoder of transformers; a text's embedding is the mean of its last states, of length
    1."""
    max_tokens: int = pydantic.Field(default=256, ge=1)
    """Tokens of a text that are looked at."""


class DedupSemantic(Step, ClusterSettings, EmbeddingSettings):
    """SemDeDup: embeddings in clusters of k-means, and in each of those the ones whose cosine with another is high go (Abbas et
    al. 2023, arXiv:2303.09540). Embeddings lie on disk, in OUT.vectors.
    """

    keeps_documents: ClassVar = True

    def prepare(self, sets: ShardSets, run: RunConfig, progress: Progress | None, out: str) -> list[Unit[Portion]]:
        """Each shard with the name of the file that says what goes of it."""
        settings = EmbeddingSettings(model=self.model, max_tokens=self.max_tokens)
        store = Store(_place(out))
        alone = run.model_copy(update={"processes": 1})  # a network has all cores or a GPU to itself
        units = sign_sets(_sign, settings, sets, store, VECTORS, alone, progress)
        members, documents = members_of([*self.against, store.location], settings, VECTORS)
        own = members[len(members) - len(units) :]
        first = own[0].first if own else documents
        gone = alike(self, members, documents, first, dim_of(members), store.location, run)
        names = ids_of(members, VECTORS, {keeper for _, keeper, _ in gone})
        told = {number: f"like {names[keeper]} (cosine {cosine:.3f})" for number, keeper, cosine in gone}
        files = [
            write_decisions(store, json.dumps({str(number - one.first): told[number] for number in numbers}).encode())
            for one, numbers in shares(own, told)
        ]
        return [
            Unit(Portion(unit.what.folder, unit.what.shard, name), unit.size) for unit, name in zip(units, files, strict=True)
        ]

    def recall(self, told: str, out: str) -> dict[str, str]:
        """By the number of a document in its shard, why it goes."""
        return Store(_place(out)).json(told)

    def run(self, documents: Iterable[Document | Lost], told: dict[str, str] | None = None) -> Iterator[Document | Lost]:
        """The documents of a shard but for those that go."""
        number = -1
        for one in documents:
            number += isinstance(one, Document)
            if isinstance(one, Document) and (reason := (told or {}).get(str(number))):
                yield Lost(one.id, reason, one.id, True, "semantic")
            else:
                yield one


def _sign(settings: EmbeddingSettings, store: Store, shard: int, documents: Iterable[Document]) -> None:
    from mmpt.data.curate.scorers._embeddings import embeddings

    ids, rows = [], []
    left = iter(documents)
    while batch := list(islice(left, BATCH)):
        ids += [one.id for one in batch]
        texts = [text_of(one) for one in batch]
        there = [place for place, text in enumerate(texts) if text]
        found = embeddings(settings.model, [texts[place] for place in there], settings.max_tokens, "dedup_semantic")
        rows.append(np.zeros((len(batch), found.shape[1]), dtype="<f4"))
        rows[-1][there] = found
    store.write(name_of(shard, VECTORS, "ids"), json.dumps(ids).encode())
    store.write(name_of(shard, VECTORS, "rows"), b"".join(one.tobytes() for one in rows))


def _place(out: str) -> str:
    """Where the embeddings lie."""
    return f"{out}.vectors"
