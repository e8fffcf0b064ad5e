"""Steps: what is made of sets of document shards, shard by shard.

    kind: filter
    rules: [{kind: image_size, min_side: 150}]

`mmpt.data.curate.job.curate` runs any of them, on one machine or many, and goes on where it was stopped.
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

from rich.progress import Progress

from mmpt.chat import ChatFormat
from mmpt.data.curate.portions import Portion, ShardSets
from mmpt.data.engine.run import RunConfig
from mmpt.data.engine.task import Written
from mmpt.data.lost import Lost
from mmpt.data.unit import Unit
from mmpt.document import Document
from mmpt.methods import Method
from mmpt.vocabulary import Vocabulary


class Step(Method):
    """A way from document shards to others, or to token shards. What it does with a shard may depend on nothing but its settings,
    the documents and what `prepare` told, so that any process may do it, at any time, and more than once."""

    key: ClassVar[str] = "step"
    keeps_documents: ClassVar[bool] = False
    """Whether what is left are the same documents, so that what was dropped can be looked at where it came from."""

    @abstractmethod
    def run(self, documents: Iterable[Document | Lost], told: Any = None) -> Written:
        """What becomes of the documents of one shard, in order, and between them what was lost."""

    def prepare(self, sets: ShardSets, run: RunConfig, progress: Progress | None, out: str) -> list[Unit[Portion]]:
        """The shards to work on, each with what `run` is told of it. For a step that must see more than one shard at once.

        What it keeps on disk lies beside `out`, the place of the result, in a folder whose name begins with that.
        """
        return sets.units()

    def recall(self, told: Any, out: str) -> Any:
        """What `run` is told of a shard, where the plan only names what `prepare` keeps on disk."""
        return told

    def vocabulary(self) -> Vocabulary | None:
        """Of the token documents that `run` gives; None: it gives documents."""
        return None

    def chat_format(self) -> ChatFormat | None:
        """How the turns of conversations are marked in them; None: there are none."""
        return None
