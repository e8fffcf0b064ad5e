"""Presentations as python-pptx writes them: what is further up comes first."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from pptx import Presentation
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.enum.shapes import MSO_SHAPE
from pptx.util import Inches

from mmpt.config import parse_config
from mmpt.data.build import BuildConfig, documents
from mmpt.data.lost import Lost
from mmpt.data.sources import slides
from mmpt.document import Document, Text
from mmpt.errors import ConfigError
from mmpt.media import encode_png


def png(value: int) -> bytes:
    return encode_png(Picture.fromarray(np.full((4, 5, 3), value, dtype=np.uint8)))


def read(folder: Path, **settings) -> list:
    return list(documents(parse_config({"sources": [{"kind": "slides", "folder": str(folder), **settings}]}, BuildConfig, "t")))


def shape(document: Document) -> list:
    return [part.text if isinstance(part, Text) else part.data for part in document.parts]


def picture(shapes, value: int, left: float, top: float):
    return shapes.add_picture(io.BytesIO(png(value)), Inches(left), Inches(top), Inches(1), Inches(1))


def write(path: Path) -> Path:
    made = Presentation()
    made.core_properties.title = "A talk"
    made.core_properties.author = "A. Speaker"
    first = made.slides.add_slide(made.slide_layouts[1])
    picture(first.shapes, 1, 5, 6)  # drawn first, but below the text
    first.shapes.title.text = "The title"
    body = first.placeholders[1].text_frame
    body.text = "first point"
    below = body.add_paragraph()
    below.text, below.level = "its detail", 1
    first.notes_slide.notes_text_frame.text = "say hello"
    second = made.slides.add_slide(made.slide_layouts[6])
    group = second.shapes.add_group_shape()
    picture(group.shapes, 3, 1, 3).element.xpath(".//p:cNvPr")[0].set("descr", "in a group")
    picture(second.shapes, 2, 1, 1)
    table = second.shapes.add_table(2, 2, Inches(1), Inches(5), Inches(3), Inches(1)).table
    for number, text in enumerate("abcd"):
        table.cell(number // 2, number % 2).text = text
    second.shapes.add_shape(MSO_SHAPE.OVAL, Inches(1), Inches(6), Inches(1), Inches(1))
    data = CategoryChartData()
    data.categories = ["x"]
    data.add_series("y", (1,))
    second.shapes.add_chart(XL_CHART_TYPE.PIE, Inches(4), Inches(4), Inches(1), Inches(1), data)
    made.save(path)
    return path


def test_texts_tables_and_pictures_by_their_place(tmp_path):
    write(tmp_path / "a.pptx")
    chart, drawn, found = read(tmp_path)
    assert shape(found) == ["The title\n\nfirst point\n  its detail", png(1), png(2), png(3), "a\tb\nc\td"]
    assert found.parts[3].alt == "in a group"
    assert found.meta == {"path": "a.pptx", "title": "A talk", "author": "A. Speaker"}
    assert chart.reason == "a chart" and drawn.reason == "1 drawn shape without text" and chart.rule == drawn.rule == "drawn"
    *_, noted = read(tmp_path, notes=True)
    assert shape(noted)[2] == "say hello"


def repacked(path: Path, change) -> None:
    with zipfile.ZipFile(path) as old:
        files = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in files.items():
            new.writestr(name, change(name, data))


def test_entities_are_not_expanded_and_bombs_not_unpacked(tmp_path, monkeypatch):
    path = write(tmp_path / "a.pptx")
    entity = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]><p:sld'
    repacked(
        path,
        lambda name, data: (
            data.replace(b"<p:sld", entity, 1).replace(b"first point", b"[&e;]") if name.endswith("slide1.xml") else data
        ),
    )
    host = Path("/etc/hostname").read_text().strip() if Path("/etc/hostname").exists() else "\0"
    assert all(host not in str(shape(one)) for one in read(tmp_path) if isinstance(one, Document))
    monkeypatch.setattr(slides, "MAX_UNPACKED", 1 << 20)
    repacked(path, lambda name, data: bytes(2 << 20) if name.endswith("image1.png") else data)
    (lost,) = read(tmp_path)
    assert lost.bad and "bytes unpacked" in lost.reason


def test_damage_is_listed(tmp_path):
    path = write(tmp_path / "a.pptx")
    data, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(40):
        first = int(random.integers(len(data)))
        path.write_bytes(data[:first] + random.bytes(30) + data[first + 30 :])
        assert all(isinstance(one, Document | Lost) for one in read(tmp_path))
    path.write_bytes(data)
    repacked(path, lambda name, data: b"no picture" if name.endswith("image1.png") else data)
    found = read(tmp_path)
    assert sum(isinstance(one, Lost) and one.bad_part for one in found) == 1 and len(found[-1].parts) == 4
    path.write_bytes(b"PK")
    (lost,) = read(tmp_path)
    assert lost.bad
    with pytest.raises(ConfigError, match=r"no \.pptx"):
        slides.Slides(folder=str(Path(__file__).parent)).units()
