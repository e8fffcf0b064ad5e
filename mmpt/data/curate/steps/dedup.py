"""Documents and pictures without their duplicates: exact, alike in text, alike to the eye or ear. The first one stays."""

from collections.abc import Iterable, Iterator
from typing import ClassVar

from rich.progress import Progress

from mmpt.data.curate.copies.decisions import Decision, DuplicateSettings, apply
from mmpt.data.curate.copies.find import find_copies, read_decisions
from mmpt.data.curate.portions import Portion, ShardSets
from mmpt.data.curate.steps import Step
from mmpt.data.engine.run import RunConfig
from mmpt.data.lost import Lost
from mmpt.data.unit import Unit
from mmpt.document import Document

Told = dict[str, list[Decision]]
"""Of the documents of a shard of which something goes, by id: what was decided."""


class Dedup(Step, DuplicateSettings):
    """MinHash of texts as in SlimPajama (Soboleva et al. 2023, cerebras.ai/blog/slimpajama), perceptual hashes of pictures as in
    mmc4 (Zhu et al. 2023, arXiv:2304.06939, section 3).

    A sentence that another speaker says, or a caption of another picture, is no duplicate: documents with media are compared only
    where these are alike too, picture by picture and sound by sound. Signatures lie on disk, in OUT.signatures, and memory does
    not grow with their number; `against` compares with those of earlier runs.
    """

    carries: ClassVar[tuple[str, ...]] = ("SlimPajama-DC",)

    keeps_documents: ClassVar = True

    against: tuple[str, ...] = ()
    """Folders of signatures that earlier runs have kept (OUT.signatures): what is in those sets goes from this one."""

    def prepare(self, sets: ShardSets, run: RunConfig, progress: Progress | None, out: str) -> list[Unit[Portion]]:
        """Each shard with the name of the file that says what was decided on its documents."""
        files = find_copies(self, sets, _place(out), self.against, run, progress)
        return [
            Unit(Portion(unit.what.folder, unit.what.shard, name), unit.size)
            for unit, name in zip(sets.units(), files, strict=True)
        ]

    def recall(self, told: str, out: str) -> Told:
        """The decisions in a file."""
        return read_decisions(_place(out), told)

    def run(self, documents: Iterable[Document | Lost], told: Told | None = None) -> Iterator[Document | Lost]:
        """The documents of a shard but for what was decided to go."""
        return apply(told or {}, documents)


def _place(out: str) -> str:
    """Where the signatures lie."""
    return f"{out}.signatures"
