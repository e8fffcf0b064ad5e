"""Documents from textbooks in CNXML, each module with its figures in place.

sources: [{kind: openstax, folder: osbooks-astronomy}]

A folder holds one book or several, as their authors keep them: `collections/NAME.collection.xml` says which modules there are and
in which order, `modules/ID/index.cnxml` is one, `media/` has the pictures.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from mmpt.config import Expression
from mmpt.data.formats.cnxml import Block, Captions, Elsewhere, cnxml_blocks
from mmpt.data.formats.cnxml_labels import Labels
from mmpt.data.formats.collection import Place, places
from mmpt.data.formats.references import page_parts
from mmpt.data.formats.xml_tree import local_name, xml_root
from mmpt.data.lost import Documents, Lost, kept
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store, files_of
from mmpt.data.unit import Unit, grouped
from mmpt.document import Document, Image, Text
from mmpt.errors import ConfigError, DataError

MODULE = "index.cnxml"
COLLECTION = re.compile(r"(.*\.)?collection\.xml")


class Module(NamedTuple):
    """A module in its file, and where it stands in a book: None where no collection names it."""

    file: str
    place: Place | None = None


class Openstax(NamedSource):
    """Every module of CNXML textbooks in the order of their collections, as OpenStax publishes them (openstax/osbooks-astronomy;
    the language is docs.openstax.org's CNXML 0.8)."""

    folder: str
    """Folder or URL of a book, or of several."""
    modules: Expression = ".*"
    """Regular expression of the ids of the modules that are read, such as `m.*[0-7]`: the rest can be held out."""
    captions: Captions = "after"
    """Where the caption of a figure stands: after its pictures, as in the book, or before them, so that a model that writes it
    knows what it is about to draw."""
    language: str = ""
    """Code of the language of the documents, for their meta; empty: the book's own."""
    license: str = ""
    """License of the documents, for their meta; empty: the book's own."""

    def units(self) -> list[Unit[list[Module]]]:
        """Runs of modules: those of each collection in its order, then those that no collection names. Raises `ConfigError` where
        there is no folder, or no module in it."""
        store, files = Store(self.folder), files_of(self.folder)
        found = {name: size for name, size in files.items() if PurePosixPath(name).name == MODULE}
        if not found:
            raise ConfigError(f"{self.folder}: no {MODULE} in it")
        collections = sorted(name for name in files if COLLECTION.fullmatch(PurePosixPath(name).name))
        listed = [module for name in collections for module in _listed(store, name, found)]
        listed += [Module(name) for name in found]
        # A module that several books share is one document, of the first of them.
        chosen = {module.file: module for module in reversed(listed) if self._wanted(module.file)}
        modules = [module for module in dict.fromkeys(listed) if chosen.get(module.file) == module]
        if not modules:
            raise ConfigError(f"{self.folder}: no module's id matches {self.modules!r}")
        pictures = sum(size for name, size in files.items() if PurePosixPath(name).parent.name == "media")
        sizes = ((one, found.get(one.file, 0) + pictures // len(found)) for one in modules)
        return grouped(sizes, max_bytes=8 << 20)

    def read(self, unit: Unit[list[Any]]) -> Documents:
        """One document for each module: its title, then text and figures in order.

        A picture that is missing or damaged is listed, as is what is no picture and lies elsewhere (films, simulations,
        exercises of a server), and the rest stays in order.
        """
        store, source = Store(self.folder), self.source_name(self.folder)
        root_of = lru_cache(maxsize=None)(lambda name: xml_root(store.read(name)))
        for module in unit.what:
            document_id = f"{source}/{module.file.removesuffix(f'/{MODULE}')}"
            try:
                root = root_of(module.file)
                if local_name(root) != "document":
                    raise DataError(f"<{local_name(root)}>, expected <document>")
                blocks = list(cnxml_blocks(root, _labels(module.file, root_of), self.captions))
            except (DataError, RecursionError) as problem:
                where = store.path(module.file)
                reason = str(problem) if isinstance(problem, DataError) else "elements too deep in each other"
                yield Lost(where, reason.removeprefix(f"{where}: "), document_id)
                continue
            parts = yield from kept(_parts(store, module.file, document_id, blocks))
            if not parts:
                yield Lost(store.path(module.file), "nothing in it", document_id)
                continue
            yield Document(document_id, source, tuple(parts), self._meta(module, Labels(root).title))

    def _wanted(self, file: str) -> bool:
        # A collection stands here for itself where it cannot be read.
        name = PurePosixPath(file)
        return name.name != MODULE or re.fullmatch(self.modules, name.parent.name) is not None

    def _meta(self, module: Module, title: str) -> dict:
        place = module.place or Place()
        meta = {
            "path": module.file,
            "title": title,
            "book": place.book,
            "chapters": list(place.chapters),
            "authors": place.authors,
            "language": self.language or place.language,
            "license": self.license or place.license,
        }
        return {key: value for key, value in meta.items() if value}


def _listed(store: Store, collection: str, found: dict[str, int]) -> Iterator[Module]:
    """The modules of a collection; it itself, whose reading then tells what is wrong with it, where it cannot be read."""
    try:
        named = places(xml_root(store.read(collection)))
    except DataError:
        yield Module(collection)
        return
    beside = PurePosixPath(collection).parent
    for identifier, place in named:
        # As in a repository, or as in the archive of a book.
        ways = [str(folder / identifier / MODULE) for folder in (beside.parent / "modules", beside, beside / "modules")]
        yield Module(next((way for way in ways if way in found), ways[0]), place)


def _labels(file: str, root_of: Callable[[str], Any]) -> Callable[[str], Labels | None]:
    """The labels of the modules beside the one in `file`, by their ids."""
    beside = PurePosixPath(file).parent.parent

    def labels(identifier: str) -> Labels | None:
        try:
            return Labels(root_of(str(beside / identifier / MODULE)))
        except DataError:
            return None

    return lru_cache(maxsize=None)(labels)


def _parts(store: Store, name: str, document_id: str, blocks: Iterable[Block]) -> Iterator[Text | Image | Lost]:
    for block in blocks:
        if isinstance(block, Elsewhere):
            where = f"{store.path(name)}, line {block.line}: {block.target}"
            yield Lost(where, f"<{block.what}>: what lies elsewhere is not fetched", document_id, whole=False)
        else:
            yield from page_parts(store, name, document_id, (block,))
