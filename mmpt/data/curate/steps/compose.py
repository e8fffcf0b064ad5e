"""Simple documents to richer ones."""

from collections.abc import Iterable

from mmpt.data.curate.compositions import Composition
from mmpt.data.curate.steps import Step
from mmpt.data.lost import Documents, Lost
from mmpt.document import Document


class Compose(Step):
    """Documents of a shard put together to others (own: the one door to all compositions)."""

    composition: Composition
    """What is made of them."""

    def run(self, documents: Iterable[Document | Lost], told: None = None) -> Documents:
        """The composed documents of a shard."""
        return self.composition.compose(documents)
