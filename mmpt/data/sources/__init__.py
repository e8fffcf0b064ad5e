"""Sources: what is read into documents, each a cheap list of units of work, and a way to read one of them.

    source: {kind: markdown, folder: my/tutorials}

A unit is read in any process, at any time, more than once: the same documents must come every time. Mistakes in the
specification are `ConfigError`s from `units`; bad data is never an error but a `Lost`.
"""

import re
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from mmpt.config import Expression
from mmpt.data.lost import Documents, Lost
from mmpt.data.store import Store, files_of
from mmpt.data.unit import Unit, grouped
from mmpt.errors import ConfigError, DataError
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


class FileSource(NamedSource):
    """A source of a folder in which each file of some suffixes is read by itself."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    max_bytes: ClassVar[int] = 512 << 20
    """Largest file that is opened."""

    folder: str
    """Folder or URL whose files are read, and those of the folders in it."""
    files: Expression = ".*"
    """Regular expression of the paths that are read."""
    language: str = ""
    """Code of the language of the documents, for their meta."""
    license: str = ""
    """License of the documents, for their meta."""

    def units(self) -> list[Unit[list[str]]]:
        """Runs of files. Raises `ConfigError` where there is no folder, or no such file in it."""
        listed = files_of(self.folder)
        found = [(name, max(1, size)) for name, size in listed.items() if name.lower().endswith(self.suffixes)]
        found = [(name, size) for name, size in found if re.fullmatch(self.files, name, re.DOTALL)]
        if not found:
            raise ConfigError(f"{self.folder}: no {', '.join(self.suffixes)} in it that matches {self.files!r}")
        return grouped(found, max_bytes=8 << 20)

    def read(self, unit: Unit[list[str]]) -> Documents:
        """The documents of each file in order. A file that cannot be read is listed with its reason."""
        store, source = Store(self.folder), self.source_name(self.folder)
        for name in unit.what:
            try:
                if (size := store.size(name)) > self.max_bytes:
                    raise DataError(f"of {size} bytes, at most {self.max_bytes} are read")
                yield from self.file_documents(store, name, f"{source}/{name}")
            except (DataError, RecursionError) as problem:
                reason = str(problem) if isinstance(problem, DataError) else "parts too deep in each other"
                yield Lost(store.path(name), reason.removeprefix(f"{store.path(name)}: "), f"{source}/{name}")

    @abstractmethod
    def file_documents(self, store: Store, name: str, document_id: str) -> Documents:
        """The documents of one file, whose own id is `document_id`, and what was lost in it. Raises `DataError`."""

    def meta(self, name: str, **found: Any) -> dict:
        """The meta of a document of the file `name`: what the source says, else what the file does."""
        all_of_it = {"path": name, **found, "language": self.language or found.get("language", "")}
        all_of_it["license"] = self.license or found.get("license", "")
        return {key: value for key, value in all_of_it.items() if value}
