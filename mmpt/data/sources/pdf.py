"""Documents from PDF files: the text of each page with its pictures in place.

sources: [{kind: pdf, folder: papers/, pages: 1}]
"""

from collections.abc import Iterator
from contextlib import closing
from typing import Any, ClassVar

import pydantic

from mmpt.data.extra import need
from mmpt.data.formats.pdf_page import Placed, page_lines, page_pictures, picture_bytes, placed_between
from mmpt.data.lost import Documents, Lost, kept
from mmpt.data.parts import image_part
from mmpt.data.sources import FileSource
from mmpt.data.store import Store
from mmpt.document import Document, Image, Text
from mmpt.errors import DataError


class Pdf(FileSource):
    """Every PDF below a folder, read by pdfium (pypdfium2-team/pypdfium2), its pictures between the lines above and below them.

    The order of the text is the file's own. Hyphens at which a word is parted go. What is drawn of lines and areas is no picture:
    how much there is of it is listed.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".pdf",)

    pages: pydantic.NonNegativeInt = 0
    """Pages of a document; 0: all of the file."""
    least_pixels: pydantic.PositiveInt = 32
    """Pictures with a side of fewer pixels are left out, each page's number of them listed."""

    def file_documents(self, store: Store, name: str, document_id: str) -> Documents:
        """One document for each file, or for so many pages of it. A page or a picture that cannot be read is listed."""
        pdfium = need("pypdfium2", "documents")
        try:
            with closing(pdfium.PdfDocument(store.read(name))) as pdf:
                told = pdf.get_metadata_dict(skip_empty=True)
                length, drawn = self.pages or max(1, len(pdf)), 0
                for start in range(0, len(pdf), length):
                    own = f"{document_id}/{start // length}" if self.pages else document_id
                    parts: list[Text | Image] = []
                    for number in range(start, min(start + length, len(pdf))):
                        found = yield from kept(self._page(pdf, number, f"{store.path(name)}, page {number + 1}", own))
                        drawn += sum(one for one in found if isinstance(one, int))
                        for one in found:
                            if isinstance(one, Text) and parts and isinstance(parts[-1], Text):
                                parts[-1] = Text(f"{parts[-1].text}\n\n{one.text}")  # a page ends within a text
                            elif not isinstance(one, int):
                                parts.append(one)
                    if not parts:
                        yield Lost(store.path(name), f"nothing in it from page {start + 1} on", own)
                        continue
                    meta = self.meta(name, title=told.get("Title", ""), author=told.get("Author", ""))
                    yield Document(own, self.source_name(self.folder), tuple(parts), meta)
                if drawn:
                    yield Lost(store.path(name), f"{drawn} lines and areas that are drawn", document_id, False, "drawn")
        except pdfium.PdfiumError as problem:
            raise DataError(f"no PDF that can be read ({problem})") from None

    def _page(self, pdf: Any, number: int, where: str, document_id: str) -> Iterator[Text | Image | Lost | int]:
        """The parts of a page, and at its end how many lines and areas are drawn on it."""
        pdfium = need("pypdfium2", "documents")
        try:
            with closing(pdf[number]) as page:
                pictures, drawn = page_pictures(page)
                large = [one for one in pictures if min(one.found.get_px_size()) >= self.least_pixels]
                for place, block in enumerate(placed_between(page_lines(page), large)):
                    if not isinstance(block, Placed):
                        yield Text(block)
                        continue
                    try:
                        yield image_part(picture_bytes(block.found))
                    except DataError as problem:
                        yield Lost(f"{where}, place {place}", str(problem), document_id, whole=False, part="image")
                if small := len(pictures) - len(large):
                    told = f"{small} picture{'s' if small > 1 else ''} of fewer than {self.least_pixels} pixels a side"
                    yield Lost(where, told, document_id, whole=False, rule="small")
                yield drawn
        except pdfium.PdfiumError as problem:
            yield Lost(where, f"cannot be read ({problem})", document_id, whole=False)
