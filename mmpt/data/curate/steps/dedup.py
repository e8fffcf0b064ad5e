"""Documents and pictures without their duplicates: exact, alike in text, alike to the eye. The first one stays."""

import os
from collections.abc import Iterable, Iterator
from functools import partial
from typing import ClassVar

from rich.progress import Progress

from mmpt.data.curate.duplicates import Decision, DuplicateSettings, apply, decide
from mmpt.data.curate.portions import Portion, ShardSets
from mmpt.data.curate.signatures import Signature, signature
from mmpt.data.curate.steps import Step
from mmpt.data.engine.run import RunConfig
from mmpt.data.engine.task import enter
from mmpt.data.engine.workers import run_all
from mmpt.data.lost import Lost
from mmpt.data.unit import Unit
from mmpt.document import Document

Told = dict[str, list[Decision]]
"""Of the documents of a shard of which something goes, by id: what was decided."""


class Dedup(Step, DuplicateSettings):
    """MinHash of texts as in SlimPajama (Soboleva et al. 2023, cerebras.ai/blog/slimpajama), perceptual hashes of pictures as in
    mmc4 (Zhu et al. 2023, arXiv:2304.06939, section 3).

    A sentence that another speaker says, or a caption of another picture, is no duplicate: documents with media are compared only
    where these are alike too, picture by picture and byte by byte of the speech.
    """

    carries: ClassVar[tuple[str, ...]] = ("SlimPajama-DC",)

    keeps_documents: ClassVar = True

    def prepare(self, sets: ShardSets, run: RunConfig, progress: Progress | None) -> list[Unit[Portion]]:
        """Each shard with what was decided on its documents, so that a worker on any machine has it."""
        units = sets.units()
        work = partial(_signatures, sets, os.getcwd(), self.ngram, self.min_words)
        task = progress.add_task("comparing", total=len(units)) if progress else None
        found: dict[int, list[Signature]] = {}
        for (number, _), signatures in run_all(work, list(enumerate(units)), run.processes, run.ray):
            found[number] = signatures
            if progress and task is not None:
                progress.advance(task)
        decisions = decide(self, [one for number in range(len(units)) for one in found[number]])
        told, first = [], 0
        for number, unit in enumerate(units):
            gone = {one.id: decisions[at] for at, one in enumerate(found[number], start=first) if at in decisions}
            told.append(Unit(Portion(unit.what.folder, unit.what.shard, gone), unit.size))
            first += len(found[number])
        return told

    def run(self, documents: Iterable[Document | Lost], told: Told | None = None) -> Iterator[Document | Lost]:
        """The documents of a shard but for what was decided to go."""
        return apply(told or {}, documents)


def _signatures(sets: ShardSets, folder: str, ngram: int, min_words: int, numbered: tuple[int, Unit[Portion]]) -> list[Signature]:
    enter(folder)
    return [signature(one, ngram, min_words) for one in sets.documents(numbered[1]) if isinstance(one, Document)]
