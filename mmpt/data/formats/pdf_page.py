"""A page of a PDF as pdfium sees it: lines of text in the order of the file, and pictures where they stand between them."""

import io
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from mmpt.data.extra import need
from mmpt.errors import DataError
from mmpt.media import MAX_PIXELS, to_png

_LINE_ENDS = (10, 13)
_HYPHENS = (2, 0xFFFE)
"""How pdfium writes a hyphen at which a word is parted; the next line follows at once, or behind a line end."""


class Box(NamedTuple):
    """In points, y upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def beside(self, other: "Box") -> bool:
        """Whether the two share no column."""
        return self.right <= other.left or other.right <= self.left


class Line(NamedTuple):
    """A line of text; `hyphen`: the word at its end goes on in the next."""

    text: str
    box: Box
    hyphen: bool


class Placed(NamedTuple):
    """A picture's object on the page."""

    box: Box
    found: Any


def placed_between(lines: list[Line], pictures: list[Placed]) -> Iterator[str | Placed]:
    """The text of a page with its pictures between the lines that are above and below them in their column.

    The order of the lines is the file's. A picture goes where the fewest lines are on the wrong side of it, right before the line
    below it, or behind the line above it where none is below.
    """
    before: dict[int, list[Placed]] = {}
    for picture in sorted(pictures, key=lambda one: (-one.box.top, one.box.left)):
        before.setdefault(_place(lines, picture.box), []).append(picture)
    start = 0
    for number in range(len(lines) + 1):
        if number in before or number == len(lines):
            if text := joined(lines[start:number]):
                yield text
            yield from before.get(number, [])
            start = number


def _place(lines: list[Line], box: Box) -> int:
    middle = (box.bottom + box.top) / 2
    column = [None if line.box.beside(box) else (line.box.bottom + line.box.top) / 2 > middle for line in lines]
    wrong = sum(above is True for above in column)
    costs = [wrong]  # of a picture before line 0, 1, …: lines above that come later, and lines below that come earlier
    for above in column:
        wrong += 0 if above is None else -1 if above else 1
        costs.append(wrong)
    best = [place for place, cost in enumerate(costs) if cost == min(costs)]
    return best[-1] if any(above is False for above in column[best[-1] :]) else best[0]


def joined(lines: list[Line]) -> str:
    """Lines as text: an empty line where a gap is larger than most of a line, words that a hyphen parts in one."""
    pieces = [lines[0].text] if lines else []
    for before, line in pairwise(lines):
        gap, height = before.box.bottom - line.box.top, line.box.top - line.box.bottom
        pieces.append("" if before.hyphen else "\n\n" if gap > 0.7 * height or gap < -4 * height else "\n")
        pieces.append(line.text)
    return "".join(pieces).strip()


def page_lines(page: Any) -> list[Line]:
    """The lines of a page (pypdfium2's) that hold more than spaces."""
    raw, text_page = need("pypdfium2.raw", "documents"), page.get_textpage()
    lines: list[Line] = []
    codes: list[int] = []
    boxes: list[Box] = []
    for index in range(text_page.count_chars() + 1):
        code = raw.FPDFText_GetUnicode(text_page, index) if index < text_page.count_chars() else 10
        if code in (*_LINE_ENDS, *_HYPHENS):
            if (text := _text(codes)) and boxes:
                lines.append(Line(text, _around(boxes), code in _HYPHENS))
            codes, boxes = [], []
        elif code:
            codes.append(code)
            box = Box(*text_page.get_charbox(index))
            if box.right > box.left and box.top > box.bottom:
                boxes.append(box)
    text_page.close()
    return lines


def _text(codes: list[int]) -> str:
    pieces = b"".join(code.to_bytes(2 if code < 0x10000 else 4, "little") if code < 0x10000 else _pair(code) for code in codes)
    return " ".join(pieces.decode("utf-16-le", "replace").split())


def _pair(code: int) -> bytes:
    return chr(code).encode("utf-16-le") if code <= 0x10FFFF else b"\xfd\xff"


def _around(boxes: list[Box]) -> Box:
    return Box(
        min(box.left for box in boxes),
        min(box.bottom for box in boxes),
        max(box.right for box in boxes),
        max(box.top for box in boxes),
    )


def page_pictures(page: Any) -> tuple[list[Placed], int]:
    """The pictures of a page, those inside of forms too, and how many lines and areas are drawn on it."""
    raw = need("pypdfium2.raw", "documents")
    pictures, drawn = [], 0
    for found in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE, raw.FPDF_PAGEOBJ_PATH, raw.FPDF_PAGEOBJ_SHADING]):
        if found.type == raw.FPDF_PAGEOBJ_IMAGE:
            pictures.append(Placed(_box(found), found))
        else:
            drawn += 1
    return pictures, drawn


def _box(found: Any) -> Box:
    """Where an object is on its page: bounds inside of a form are those of the form's own plane."""
    left, bottom, right, top = found.get_bounds()
    corners = [(left, bottom), (left, top), (right, bottom), (right, top)]
    form = found.container
    while form is not None:
        matrix = form.get_matrix()
        corners = [matrix.on_point(x, y) for x, y in corners]
        form = form.container
    xs, ys = zip(*corners, strict=True)
    return Box(min(xs), min(ys), max(xs), max(ys))


def picture_bytes(found: Any) -> bytes:
    """A picture as the page shows it: the file's own JPEG where that is so, else PNG, on white. Raises `DataError`."""
    pdfium, pillow = need("pypdfium2", "documents"), need("PIL.Image")
    try:
        width, height = found.get_px_size()
        if not 0 < width * height <= MAX_PIXELS:
            raise DataError(f"picture of {width} × {height} pixels, at most {MAX_PIXELS} are decoded")
        shown = found.get_bitmap(render=True).to_pil()
        matrix = found.get_matrix()
        upright = matrix.a > 0 and matrix.d > 0 and matrix.b == matrix.c == 0
        opaque = "A" not in shown.getbands() or shown.getchannel("A").getextrema()[0] == 255
        if found.get_filters()[-1:] == ["DCTDecode"] and upright and opaque:
            data = bytes(found.get_data(decode_simple=True))
            with pillow.open(io.BytesIO(data)) as picture:
                if picture.format == "JPEG" and picture.mode in ("L", "RGB"):
                    return data
        if not opaque:
            paper = pillow.new("RGBA", shown.size, "white")
            shown = pillow.alpha_composite(paper, shown.convert("RGBA"))
        return to_png(shown.convert("L" if shown.mode == "L" else "RGB"))
    except (pdfium.PdfiumError, OSError, ValueError, SyntaxError) as problem:
        raise DataError(f"picture that cannot be read ({problem})") from None
