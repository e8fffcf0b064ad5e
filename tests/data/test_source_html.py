"""HTML gives its text and pictures in the order of the page, and nothing that a reader does not see."""

import base64
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from mmpt.data.lost import Lost
from mmpt.data.sources import html
from mmpt.data.sources.html import HtmlConfig
from mmpt.document import Document, Image
from mmpt.errors import ConfigError
from mmpt.media import encode_png


def png(value: int) -> bytes:
    return encode_png(Picture.fromarray(np.full((4, 5, 3), value, dtype=np.uint8)))


def read(folder: Path, **changes) -> list:
    config = HtmlConfig(folder=str(folder), **changes)
    return [one for unit in html.units(config) for one in html.read(config, unit)]


def test_a_page_in_its_order(tmp_path):
    (tmp_path / "img").mkdir()
    for value in range(3):
        (tmp_path / "img" / f"{value} x.png").write_bytes(png(value))
    inline = base64.b64encode(png(9)).decode()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "page.html").write_text(f"""<!doctype html><html lang="fr"><head><title>A  title</title>
<style>p {{}}</style></head><body><nav>menu <img src="../img/2%20x.png"></nav><h1>Head</h1>
<p>One <b>bold</b>
   line<br>and another<!-- no --> <img src="../img/0%20x.png" alt="zero &amp; more"> after.</p>
<script>alert("x")</script><ul><li>first<li>second</ul>
<pre>keep   this
  as it is</pre><picture><img data-src="../img/1%20x.png"></picture>
<img srcset="../img/2%20x.png 1x, other.png 2x"><img src="data:image/png;base64,{inline}" alt="in the page">
<img src="https://x.org/a.png"><img src="none.png"><table><tr><td>a</td><td>b</td></tr></table>
<footer>foot</footer></body></html>""")
    found = read(tmp_path)
    (document,) = [one for one in found if isinstance(one, Document)]
    parts = [(part.alt, part.data) if isinstance(part, Image) else part.text for part in document.parts]
    assert parts == [
        "A title\n\nHead\n\nOne bold line\nand another",
        ("zero & more", png(0)),
        "after.\n\n- first\n\n- second\n\nkeep   this\n  as it is",
        ("", png(1)),
        ("", png(2)),
        ("in the page", png(9)),
        "a | b |",
    ]
    assert document.meta == {"path": "sub/page.html", "title": "A title", "language": "fr"}
    lost = [one.reason for one in found if isinstance(one, Lost)]
    assert "not fetched" in lost[0] and "no such file" in lost[1] and len(lost) == 2


def test_pages_that_mean_harm_or_nothing(tmp_path):
    (tmp_path / "deep.html").write_text("<div>" * 3000 + "deep" + "</div>" * 3000)
    (tmp_path / "empty.html").write_text("")
    (tmp_path / "out.html").write_text('text <img src="../../../etc/passwd"><img src="data:image/png;base64,AAAA">')
    found = {one.id if isinstance(one, Document) else one.document: one for one in read(tmp_path, name="p") if one}
    assert isinstance(found["p/empty.html"], Lost)
    reasons = [one.reason for one in read(tmp_path, name="p") if isinstance(one, Lost) and one.document == "p/out.html"]
    assert "leads out" in reasons[0] and "no picture" in reasons[1]
    deep = found["p/deep.html"]
    assert isinstance(deep, Lost) or deep.parts[0].text == "deep"
    with pytest.raises(ConfigError, match="no .html"):
        read(tmp_path / "none") if (tmp_path / "none").mkdir() is None else None
