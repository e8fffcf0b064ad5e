"""Documents from EPUB books: each page of the spine with its pictures in place.

sources: [{kind: epub, folder: books/, drop: [nav, "[hidden]"]}]
"""

from typing import ClassVar
from urllib.parse import quote

from mmpt.data.formats.archive import Archive
from mmpt.data.formats.epub_book import Book, book_of, page_of
from mmpt.data.formats.html_blocks import html_blocks
from mmpt.data.formats.html_tree import mistake_in
from mmpt.data.formats.references import Picture, is_picture_file, page_parts
from mmpt.data.lost import Documents, Lost, kept
from mmpt.data.sources import FileSource
from mmpt.data.store import Store
from mmpt.data.unit import Unit
from mmpt.document import Document
from mmpt.errors import ConfigError, DataError


class Epub(FileSource):
    """Every EPUB below a folder, each page in the order of its spine (EPUB 3.3, w3.org/TR/epub-33; EPUB 2 too).

    A book is unpacked in memory, one file at a time; nothing in it can name what lies outside.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".epub",)

    drop: tuple[str, ...] = ("nav", "[hidden]", "[aria-hidden=true]")
    """CSS selectors: elements that match one go with all that is in them; the pictures among that are listed."""

    def units(self) -> list[Unit[list[str]]]:
        """Runs of books. Raises `ConfigError` where there is none, or a selector that is none."""
        mistakes = [(selector, mistake_in(selector)) for selector in self.drop]
        if found := [f"drop: {selector!r} is no CSS selector ({mistake})" for selector, mistake in mistakes if mistake]:
            raise ConfigError("\n".join(found))
        return super().units()

    def file_documents(self, store: Store, name: str, document_id: str) -> Documents:
        """One document for each page of the spine that has something in it; what has nothing, or cannot be read, is listed."""
        archive = Archive(store.read(name), store.path(name))
        book = book_of(archive)
        for target, reason in book.problems:
            yield Lost(f"{store.path(name)}: {target}", reason, document_id, whole=False)
        for number, page_name in enumerate(book.spine):
            yield from self._page(archive, name, book, number, f"{document_id}/{page_name}")

    def _page(self, archive: Archive, file: str, book: Book, number: int, document_id: str) -> Documents:
        name = book.spine[number]
        try:
            bitmap = is_picture_file(name) and not name.lower().endswith(".svg")
            blocks = [Picture((f"/{quote(name)}",), "", 0)] if bitmap else html_blocks(page_of(archive, name), "", self.drop)
            parts = yield from kept(page_parts(archive, name, document_id, blocks))
        except (DataError, RecursionError) as problem:
            yield Lost(archive.path(name), str(problem).removeprefix(f"{archive.path(name)}: "), document_id)
            return
        if not parts:
            yield Lost(archive.path(name), "nothing in it", document_id, rule="empty page")
            return
        meta = self.meta(
            file, page=number, title=book.title, authors=book.authors, language=book.language.split("-")[0], license=book.rights
        )
        yield Document(document_id, self.source_name(self.folder), tuple(parts), meta)
