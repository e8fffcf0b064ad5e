"""Compositions: richer documents put together from simple ones.

composition: {kind: in_context, examples: 4}
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from mmpt.data.lost import Documents, Lost
from mmpt.document import Document
from mmpt.methods import Method


class Composition(Method):
    """A way to compose documents of a shard. It may depend on nothing but its settings and the documents: the same come every
    time, and every part of a document is in the result, or listed."""

    key: ClassVar[str] = "composition"

    @abstractmethod
    def compose(self, documents: Iterable[Document | Lost]) -> Documents:
        """The composed documents of one shard, and between them what was lost. Documents of another form stay as they are."""
