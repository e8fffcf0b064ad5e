"""Sources: what is read into documents, each a cheap list of units of work, and a way to read one of them.

    source: {kind: markdown, folder: my/tutorials}

A unit is read in any process, at any time, more than once: the same documents must come every time. Mistakes in the
specification are `ConfigError`s from `units`; bad data is never an error but a `Lost`.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from mmpt.data.lost import Documents
from mmpt.data.unit import Unit
from mmpt.methods import Method


class Source(Method):
    """Where documents come from. A method says by its own `Unit[…]` what its units hold."""

    key: ClassVar[str] = "source"

    @property
    def sets(self) -> Sequence[str]:
        """Folders or URLs of the shard sets that the documents come from: what is built of them tells their history, too."""
        return ()

    @abstractmethod
    def units(self) -> Sequence[Unit[Any]]:
        """The work in order: lists and stats files, reads tables, no media.

        Raises `ConfigError` where there is nothing to read.
        """

    @abstractmethod
    def read(self, unit: Unit[Any]) -> Documents:
        """The documents of one unit in order, and between them what was lost in it."""

    def documents(self) -> Documents:
        """Every document in order, read in this process, and between them what was lost."""
        for unit in self.units():
            yield from self.read(unit)


class NamedSource(Source):
    """A source that gives its documents their ids."""

    name: str = ""
    """The `source` of the documents, which stands before their ids; by default the last step of the path or URL."""

    def source_name(self, location: str) -> str:
        """The name given, else the last step of the path or URL."""
        return self.name or location.rstrip("/").rsplit("/", 1)[-1]
