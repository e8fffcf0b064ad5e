"""Documents from Jupyter notebooks: Markdown, code and what it gave, pictures in place.

sources: [{kind: notebooks, folder: my/textbook}]
"""

from collections.abc import Iterable, Iterator
from typing import ClassVar

from mmpt.data.extra import need
from mmpt.data.formats.notebook_cells import cell_blocks
from mmpt.data.formats.references import Picture, page_parts
from mmpt.data.lost import Documents, Lost, kept
from mmpt.data.sources import FileSource
from mmpt.data.store import Store
from mmpt.document import Document
from mmpt.errors import DataError


class Notebooks(FileSource):
    """Every Jupyter notebook below a folder, of any version that jupyter/nbformat reads: its cells in order, code and printed
    outputs as fenced blocks, the pictures of Markdown, of attachments and of outputs in place.

    Of an output that is there in several forms a picture comes first, then Markdown, LaTeX, plain text and HTML.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".ipynb",)
    max_bytes: ClassVar[int] = 256 << 20

    outputs: bool = True
    """Whether what the code gave is read, too."""
    public: tuple[str, ...] = ()
    """Folders whose files references from the root may mean, as in source `markdown`."""

    def file_documents(self, store: Store, name: str, document_id: str) -> Documents:
        """One document for each notebook. A picture that cannot be had is listed, as are raw cells and outputs of other kinds."""
        notebook = _notebook(store.read(name))
        told = notebook.metadata.get("language_info") or notebook.metadata.get("kernelspec") or {}
        language = str(told.get("language" if "language" in told else "name", "")).lower()
        blocks = (block for cell in notebook.cells for block in cell_blocks(cell, language, self.outputs))
        parts = yield from kept(page_parts(store, name, document_id, _joined(blocks), self.public))
        if not parts:
            yield Lost(store.path(name), "nothing in it", document_id)
            return
        title = str(notebook.metadata.get("title") or "")
        meta = self.meta(name, title=title, programming_language=language)
        yield Document(document_id, self.source_name(self.folder), tuple(parts), meta)


def _notebook(data: bytes):
    """Raises `DataError`."""
    nbformat = need("nbformat", "documents")
    try:
        notebook = nbformat.reads(data.decode("utf-8-sig"), as_version=4)
        sound = all(
            isinstance(cell.source, str) and (cell.cell_type != "code" or isinstance(cell.outputs, list))
            for cell in notebook.cells
        )
    except (ValueError, KeyError, AttributeError, TypeError, nbformat.ValidationError) as problem:
        raise DataError(f"no notebook ({str(problem).strip().partition(chr(10))[0][:200]})") from None
    if not sound:
        raise DataError("no notebook (a cell without text or outputs)")
    return notebook


def _joined(blocks: Iterable[str | Picture]) -> Iterator[str | Picture]:
    """The blocks, those of text that follow each other as one."""
    run: list[str] = []
    for block in blocks:
        if isinstance(block, str):
            run.append(block)
            continue
        if run and not block.reason:
            yield "\n\n".join(run)
            run = []
        yield block
    if run:
        yield "\n\n".join(run)
