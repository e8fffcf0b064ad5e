"""Documents from slides (.pptx): texts, tables and pictures of each slide by their place on it.

sources: [{kind: slides, folder: talks/, notes: true}]
"""

import io
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from mmpt.data.extra import need
from mmpt.data.formats.archive import Archive
from mmpt.data.formats.xml_tree import local_name
from mmpt.data.lost import Documents, Lost, kept
from mmpt.data.parts import image_part
from mmpt.data.sources import FileSource
from mmpt.data.store import Store
from mmpt.document import Document, Image, Text
from mmpt.errors import DataError

MAX_UNPACKED = 2 << 30
"""Bytes of a presentation, unpacked."""


class Slides(FileSource):
    """Every presentation (.pptx) below a folder, slide by slide (github.com/scanny/python-pptx): what is further up comes first,
    then what is further left.

    Hidden slides are read. Charts, drawings, films and pictures in formats of Office are listed.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".pptx",)

    notes: bool = False
    """Whether the speaker's notes follow each slide."""

    def file_documents(self, store: Store, name: str, document_id: str) -> Documents:
        """One document for each presentation. What of it is neither text nor a picture that can be read is listed."""
        data = store.read(name)
        if (size := sum(Archive(data, store.path(name)).files().values())) > MAX_UNPACKED:
            raise DataError(f"of {size} bytes unpacked, at most {MAX_UNPACKED} are read")
        presentation = _presentation(data)
        parts: list[Text | Image] = []
        for number, slide in enumerate(presentation.slides, 1):
            where = f"{store.path(name)}, slide {number}"
            try:
                found = yield from kept(_slide(slide, where, document_id, self.notes))
            except Exception as problem:  # as in `_presentation`: a slide is whole, or it is listed
                yield Lost(where, f"cannot be read ({type(problem).__name__}: {problem})", document_id, whole=False)
                continue
            for part in found:
                if isinstance(part, Text) and parts and isinstance(parts[-1], Text):
                    parts[-1] = Text(f"{parts[-1].text}\n\n{part.text}")
                else:
                    parts.append(part)
        if not parts:
            yield Lost(store.path(name), "nothing in it", document_id)
            return
        about = presentation.core_properties
        meta = self.meta(name, title=about.title, author=about.author, language=about.language)
        yield Document(document_id, self.source_name(self.folder), tuple(parts), meta)


def _presentation(data: bytes) -> Any:
    """Raises `DataError`."""
    pptx = need("pptx", "documents")
    try:
        presentation = pptx.Presentation(io.BytesIO(data))
        list(presentation.slides)
        return presentation
    except Exception as problem:  # python-pptx and lxml raise what they come upon in a damaged package
        raise DataError(f"no presentation that can be read ({type(problem).__name__}: {problem})") from None


def _slide(slide: Any, where: str, document_id: str, notes: bool) -> Iterator[Text | Image | Lost]:
    """The texts and pictures of a slide, and what of it is neither."""
    drawn = 0
    for shape in _in_order(slide.shapes):
        if shape.has_text_frame and (text := _text(shape.text_frame)):
            yield Text(text)
        elif getattr(shape, "has_table", False):
            rows = ["\t".join(" ".join(cell.text.split()) for cell in row.cells) for row in shape.table.rows]
            yield Text("\n".join(rows))
        elif _is_picture(shape):
            try:
                yield image_part(shape.image.blob, " ".join("".join(shape.element.xpath(".//p:cNvPr/@descr")[:1]).split()))
            except (DataError, ValueError, KeyError) as problem:  # the last two where a picture is linked, not there
                yield Lost(f"{where}: {shape.name}", str(problem), document_id, whole=False, part="image")
        elif local_name(shape.element) in ("graphicFrame", "contentPart"):
            kind = "chart" if getattr(shape, "has_chart", False) else "chart, diagram or object of another program"
            yield Lost(f"{where}: {shape.name}", f"a {kind}", document_id, whole=False, rule="drawn")
        elif not shape.is_placeholder:
            drawn += 1
    if drawn:
        yield Lost(where, f"{drawn} drawn shape{'s' if drawn > 1 else ''} without text", document_id, whole=False, rule="drawn")
    if notes and slide.has_notes_slide and (text := _text(slide.notes_slide.notes_text_frame)):
        yield Text(text)


def _in_order(shapes: Iterable[Any]) -> Iterator[Any]:
    """Shapes by their place, those of a group where the group is."""
    for shape in sorted(shapes, key=lambda one: (one.top or 0, one.left or 0)):
        if local_name(shape.element) == "grpSp":
            yield from _in_order(shape.shapes)
        else:
            yield shape


def _is_picture(shape: Any) -> bool:
    """Also a placeholder that is filled with one; a film shows a picture, which is its own."""
    return local_name(shape.element) == "pic"


def _text(frame: Any) -> str:
    """Paragraphs as lines, those below others further in."""
    lines = ["  " * one.level + " ".join(one.text.split()) for one in frame.paragraphs] if frame is not None else []
    return "\n".join(line for line in lines if line.strip())
