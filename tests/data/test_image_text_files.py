"""Pictures with their texts in files of their names."""

import pytest
from PIL import Image as Pillow

from mmpt.data.lost import Lost
from mmpt.data.sources.image_text_files import ImageTextFiles
from mmpt.errors import ConfigError
from mmpt.media import encode_png

SVG = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:cc="http://web.resource.org/cc/"
     xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><title>of the drawing itself</title><metadata><rdf:RDF>
 <cc:Work rdf:about=""><dc:title>chemistry  flask</dc:title>
  <dc:creator><cc:Agent><dc:title>Somebody</dc:title></cc:Agent></dc:creator>
  <dc:subject><rdf:Bag><rdf:li>hash</rdf:li><rdf:li></rdf:li><rdf:li>lab_tool</rdf:li><rdf:li>glass</rdf:li></rdf:Bag></dc:subject>
 </cc:Work></rdf:RDF></metadata></svg>"""
XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
 <rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/">
  <dc:title><rdf:Alt><rdf:li xml:lang="x-default">A pier</rdf:li></rdf:Alt></dc:title>
  <dc:subject><rdf:Bag><rdf:li>sea</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"""


@pytest.fixture
def folder(tmp_path):
    def put(name: str, text: str | None, suffix: str = "txt", beside: str = "pictures") -> None:
        picture, texts = tmp_path / "pictures" / f"{name}.png", tmp_path / beside / f"{name}.{suffix}"
        for path in (picture, texts):
            path.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(encode_png(Pillow.new("RGB", (4, 3), "red")))
        if text is not None:
            texts.write_text(text, encoding="utf-8")

    return put


def read(tmp_path, **settings) -> tuple[list, list]:
    found = list(ImageTextFiles(folder=str(tmp_path / "pictures"), **settings).documents())
    lost = [one for one in found if isinstance(one, Lost)]
    return [one for one in found if not isinstance(one, Lost)], lost


def test_the_first_line_of_a_text_is_the_caption(tmp_path, folder):
    folder("animals/cat", "A cat.\nes.utf8=Un gato.\n")
    folder("animals/dog", None)
    folder("empty", "\n")
    documents, lost = read(tmp_path, license="GPL-2")
    assert [one.id for one in documents] == ["pictures/animals/cat.png"] and documents[0].meta["license"] == "GPL-2"
    picture, text = documents[0].parts
    assert picture.alt == text.text == "A cat." and (picture.width, picture.height) == (4, 3)
    assert [one.item.rpartition("/")[2] for one in lost] == ["dog.png", "empty.png"]
    assert "dog.txt" in lost[0].reason and "no text in empty.txt" in lost[1].reason


@pytest.mark.parametrize(
    ("suffix", "content", "expected"), [("svg", SVG, "chemistry flask, lab tool, glass"), ("xmp", XMP, "A pier, sea")]
)
def test_titles_and_subjects_are_those_of_the_picture_alone(tmp_path, folder, suffix, content, expected):
    folder("science/flask_01", content, suffix, "texts")
    folder("science/broken", "<svg>", suffix, "texts")
    documents, lost = read(tmp_path, texts=str(tmp_path / "texts"), text=suffix, leave_out="hash|of nobody")
    assert [one.parts[1].text for one in documents] == [expected]
    assert len(lost) == 1 and f"science/broken.{suffix}: no well-formed XML" in lost[0].reason


def test_a_series_is_on_one_side_of_the_split(tmp_path, folder):
    names = [f"{kind}_{number:02}{letter}" for kind in "abcdefghijkl" for number in range(2) for letter in ("", "b")]
    for name in names:
        folder(name, name)
    sides = {side: {one.parts[1].text for one in read(tmp_path, split=side, held_out_every=3)[0]} for side in ("train", "test")}
    assert sides["train"] | sides["test"] == set(names) == {one.parts[1].text for one in read(tmp_path)[0]}
    assert not {name[0] for name in sides["train"]} & {name[0] for name in sides["test"]} and 4 <= len(sides["test"]) <= 28


def test_a_folder_without_pictures_is_a_mistake(tmp_path, folder):
    folder("cat", "A cat.")
    (tmp_path / "pictures" / "cat.png").unlink()
    with pytest.raises(ConfigError, match=r"no .*\.png.* in it"):
        ImageTextFiles(folder=str(tmp_path / "pictures")).units()
