"""The page shows documents in order, and lets nothing of the data act or load."""

import base64
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from mmpt.data.curate.job import curate
from mmpt.data.curate.steps.filter import Filter
from mmpt.data.lost import Lost
from mmpt.data.page import render
from mmpt.data.shards.read import DocumentShards
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Image, Speech, Text
from mmpt.errors import DataError
from mmpt.media import encode_flac, encode_png

ROOT = Path(__file__).resolve().parents[2]
PICTURE = encode_png(Picture.fromarray(np.full((80, 70, 3), 50, dtype=np.uint8)))
SPEECH = encode_flac(np.zeros(800, dtype=np.float32) + 0.1, 8000)


class Tags(HTMLParser):
    """Every tag with its attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


def document(name: str, text: str = "hello") -> Document:
    parts = (Text(text), Image(PICTURE, "png", 70, 80, text), Speech(SPEECH, "flac", 8000, 0.1, text, ((text, 0.0, 0.1),)))
    return Document(name, text, parts, {"key": text})


def test_what_the_data_says_is_shown_and_never_acts():
    evil = '"><script>alert(1)</script><img src=https://x.org/a onerror=alert(2)>'
    page = render(evil, 1, [document(evil, evil)], [Lost(evil, evil, evil, rule=evil)])
    found = Tags(page)
    assert {tag for tag, _ in found.tags} <= {
        "html", "head", "meta", "title", "style", "body", "header", "main", "h1", "h2", "h3", "p", "table", "tr", "td", "th", "a",
        "section", "div", "figure", "figcaption", "img", "audio", "details", "summary", "ul", "li",
    }  # fmt: skip
    for _, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert all(attributes[name].startswith(("data:", "#")) for name in ("src", "href") if name in attributes)
    assert found.text.count("<script>alert(1)</script>") >= 8
    policies = [a["content"] for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"]


def test_pictures_and_sound_are_in_the_page_in_the_documents_order():
    found = Tags(render("set", 5, [document("a"), document("b")], []))
    media = [(tag, a["src"]) for tag, a in found.tags if tag in ("img", "audio")]
    assert [tag for tag, _ in media] == ["img", "audio", "img", "audio"]
    assert base64.b64decode(media[0][1].partition(",")[2]) == PICTURE and media[0][1].startswith("data:image/png")
    assert base64.b64decode(media[1][1].partition(",")[2]) == SPEECH and media[1][1].startswith("data:audio/flac")
    assert "5 documents, 2 of them" in found.text and "Nothing was lost." in found.text


def test_large_pictures_become_smaller_and_broken_ones_say_so():
    large = encode_png(Picture.fromarray(np.zeros((100, 3000, 3), dtype=np.uint8)))
    parts = (Image(large, "png", 3000, 100), Image(b"broken", "png", 5, 5))
    page = render("set", 1, [Document("d", "s", parts)], [])
    assert "data:image/jpeg" in page and "no picture that can be decoded" in page and "3000 × 100" in page


def test_the_script_shows_what_a_filter_dropped(tmp_path):
    with ShardWriter(tmp_path / "in", built={}) as writer:
        writer.write(document("kept", "long enough"))
        writer.write(document("cut", "no"))
    curate(Filter.model_validate({"rules": [{"kind": "text_length", "min": 5}]}), [tmp_path / "in"], tmp_path / "out")
    script = [sys.executable, str(ROOT / "datasets" / "view.py"), str(tmp_path / "out"), str(tmp_path / "page.html")]
    result = subprocess.run(script, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0 and "2 documents, 1 things lost or dropped" in result.stdout, result.stderr
    page = (tmp_path / "page.html").read_text()
    assert "text_length" in page and re.search(r"cut, part 0: 2 characters<div class=\"text\">no</div>", page)
    shards = DocumentShards(tmp_path / "out")
    assert shards.find("cut").id == "cut"
    with pytest.raises(DataError, match="no document has the id 'x'"):
        shards.find("x")
