"""Documents from a tree of reStructuredText files, each with its pictures in place.

sources: [{kind: rst, folder: docs/source}]
"""

from typing import ClassVar

from mmpt.data.formats.html_blocks import html_blocks
from mmpt.data.formats.html_tree import Page
from mmpt.data.formats.references import page_parts
from mmpt.data.formats.rst_html import rst_html
from mmpt.data.lost import Documents, Lost, kept
from mmpt.data.sources import FileSource
from mmpt.data.store import Store
from mmpt.document import Document
from mmpt.errors import DataError


class Rst(FileSource):
    """Every reStructuredText file below a folder, as docutils shows it (docutils.sourceforge.io), with what Sphinx adds
    (sphinx-doc/sphinx) as text.

    Roles and directives that are not known are their text. What a directive would bring from another file or make by a program is
    listed; nothing is included or run. "/a.png" is a file of the folder, or of `public`.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".rst", ".rest")
    max_bytes: ClassVar[int] = 8 << 20

    public: tuple[str, ...] = ()
    """Folders whose files references from the root may mean, as in source `markdown`."""

    def file_documents(self, store: Store, name: str, document_id: str) -> Documents:
        """One document for each file. A picture that cannot be had is listed, as is a directive whose content is not there."""
        try:
            text = store.read(name).decode("utf-8-sig")
        except UnicodeDecodeError as problem:
            raise DataError(str(problem)) from None
        found = rst_html(text)
        for line, told in found.lost:
            yield Lost(f"{store.path(name)}, line {line}", told, document_id, whole=False, rule="directive")
        page = Page(found.html, text)
        parts = yield from kept(page_parts(store, name, document_id, html_blocks(page), self.public))
        if not parts:
            yield Lost(store.path(name), "nothing in it", document_id, rule="empty page")
            return
        title = page.first("h1, h2")
        meta = self.meta(name, title=" ".join(title.text().split()) if title else "")
        yield Document(document_id, self.source_name(self.folder), tuple(parts), meta)
