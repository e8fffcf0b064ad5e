"""PDF files as reportlab writes them: text and pictures in the order of the page."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen import canvas

from mmpt.config import parse_config
from mmpt.data.build import BuildConfig, documents
from mmpt.data.lost import Lost
from mmpt.data.sources.pdf import Pdf
from mmpt.document import Document, Text
from mmpt.errors import ConfigError
from mmpt.media import decode_image


def picture(value: int, side: int = 64, form: str = "PNG", alpha: bool = False) -> bytes:
    array = np.full((side, side, 3), value, dtype=np.uint8)
    array[: side // 2] = 255 - value  # the upper half differs, so that one upside down is seen
    buffer = io.BytesIO()
    made = Picture.fromarray(array)
    if alpha:
        made.putalpha(Picture.fromarray(np.pad(np.full((side, side // 2), 255, np.uint8), ((0, 0), (0, side - side // 2)))))
    made.save(buffer, form)
    return buffer.getvalue()


def page(pdf: canvas.Canvas, *things: tuple) -> None:
    """(x, y, text or picture) in points from the lower left."""
    for x, y, what in things:
        if isinstance(what, bytes):
            pdf.drawImage(ImageReader(io.BytesIO(what)), x, y, 100, 100, mask="auto")
        elif isinstance(what, Path):
            pdf.drawImage(str(what), x, y, 100, 100)
        else:
            pdf.drawString(x, y, what)
    pdf.showPage()


def written(path: Path, *pages: list[tuple]) -> Path:
    pdf = canvas.Canvas(str(path), pagesize=A4, pageCompression=1)
    pdf.setTitle("A title")
    for things in pages:
        page(pdf, *things)
    pdf.save()
    return path


def read(folder: Path, **settings) -> list:
    return list(documents(parse_config({"sources": [{"kind": "pdf", "folder": str(folder), **settings}]}, BuildConfig, "t")))


def shape(document: Document) -> list:
    """Texts, and of each picture the values at its lower left and upper left."""
    return [part.text if isinstance(part, Text) else values(part.data) for part in document.parts]


def values(data: bytes) -> tuple[int, int]:
    array = np.asarray(decode_image(data).convert("RGB"))
    return int(array[-3, 3, 0]), int(array[3, 3, 0])


def near(found: list, wanted: list) -> bool:
    return len(found) == len(wanted) and all(
        a == b if isinstance(b, str) else np.abs(np.subtract(a, b)).max() <= 3 for a, b in zip(found, wanted, strict=True)
    )


def test_pictures_stand_between_the_lines_around_them(tmp_path):
    written(
        tmp_path / "a.pdf",
        # The file draws the pictures first, the text in the order of two columns.
        [
            (350, 650, picture(40)),
            (50, 400, picture(80, form="JPEG")),
            (50, 800, "The title of the page stands over both of its columns, right here"),
            (50, 750, "left one"),
            (50, 520, "left two"),
            (50, 380, "left three"),
            (350, 630, "right one"),
            (350, 600, "right two"),
        ],
        [(50, 800, "second page"), (50, 650, picture(10)), (50, 540, picture(20))],
    )
    (found,) = read(tmp_path)
    first, *others = shape(found)
    assert first == "The title of the page stands over both of its columns, right here\n\nleft one\n\nleft two"
    assert near(others, [(80, 175), "left three", (40, 215), "right one\n\nright two\n\nsecond page", (10, 245), (20, 235)])
    assert found.meta == {"path": "a.pdf", "title": "A title", "author": "anonymous"}


def test_words_that_a_hyphen_parts_are_one_and_others_stay_apart(tmp_path):
    lines = ["A sentence whose last word is parted, as in typo-", "graphy, and whose next line ends as it should", "and goes on"]
    written(tmp_path / "a.pdf", [(50, 800 - 14 * number, line) for number, line in enumerate(lines)])
    (found,) = read(tmp_path)
    text = "A sentence whose last word is parted, as in typography, and whose next line ends as it should\nand goes on"
    assert shape(found) == [text]


def test_pages_are_documents_where_asked(tmp_path):
    written(tmp_path / "a.pdf", [(50, 800, "one")], [(50, 800, "two"), (50, 600, picture(10))], [(50, 800, "three")])
    found = read(tmp_path, pages=2)
    assert [one.id.rpartition("/")[2] for one in found] == ["0", "1"]
    assert near(shape(found[0]), ["one\n\ntwo", (10, 245)]) and shape(found[1]) == ["three"]


def test_jpeg_stays_and_what_is_see_through_lies_on_white(tmp_path):
    jpeg = tmp_path / "a.jpg"
    jpeg.write_bytes(picture(80, form="JPEG"))
    written(tmp_path / "a.pdf", [(50, 600, jpeg)], [(50, 600, picture(0, alpha=True))])
    (found,) = read(tmp_path)
    assert found.parts[0].data == jpeg.read_bytes()
    array = np.asarray(decode_image(found.parts[1].data).convert("RGB"))
    assert array[-3, 3, 0] == 0 and array[-3, -3, 0] == 255


def test_a_picture_that_a_form_moves_is_where_it_is_seen(tmp_path):
    pdf = canvas.Canvas(str(tmp_path / "a.pdf"), pagesize=A4)
    pdf.beginForm("figure")
    pdf.drawImage(ImageReader(io.BytesIO(picture(60))), 0, 0, 100, 100)
    pdf.endForm()
    pdf.drawString(50, 800, "above")
    pdf.drawString(50, 400, "below")
    pdf.translate(50, 500)
    pdf.doForm("figure")
    pdf.showPage()
    pdf.save()
    (found,) = read(tmp_path)
    assert near(shape(found), ["above", (60, 195), "below"])


def test_what_is_left_out_is_listed(tmp_path):
    pdf = canvas.Canvas(str(tmp_path / "a.pdf"), pagesize=A4)
    pdf.drawString(50, 800, "text")
    pdf.line(0, 0, 10, 10)
    pdf.drawImage(ImageReader(io.BytesIO(picture(1, side=8))), 0, 0)
    pdf.showPage()
    pdf.showPage()
    pdf.save()
    (tmp_path / "empty.pdf").write_bytes(b"")
    (tmp_path / "no.pdf").write_bytes(b"%PDF-1.7\nnothing")
    locked = canvas.Canvas(str(tmp_path / "locked.pdf"), encrypt="secret")
    locked.drawString(0, 0, "x")
    locked.save()
    small, found, drawn, empty, locked_one, no = read(tmp_path)
    assert small.rule == "small" and small.reason.startswith("1 picture of fewer than 32")
    assert shape(found) == ["text"] and drawn.rule == "drawn" and drawn.reason.startswith("1 lines")
    assert all(one.bad for one in (empty, locked_one, no)) and "assword" in locked_one.reason
    with pytest.raises(ConfigError, match=r"no \.pdf in it"):
        Pdf(folder=str(Path(__file__).parent)).units()


def test_damage_is_listed_and_ends_in_no_traceback(tmp_path):
    path = written(tmp_path / "a.pdf", [(50, 800, "one"), (50, 600, picture(10))], [(50, 800, "two"), (50, 600, picture(20))])
    data, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        first = int(random.integers(len(data)))
        path.write_bytes(data[:first] + random.bytes(40) + data[first + 40 :])
        for one in read(tmp_path):
            assert isinstance(one, Document | Lost)
