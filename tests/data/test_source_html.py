"""HTML gives its text and pictures in the order of the page, and nothing that a reader does not see."""

import base64
import html as escapes
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from mmpt.data.lost import Lost
from mmpt.data.sources.html import Html
from mmpt.data.store import Store
from mmpt.document import Document, Image, Text
from mmpt.errors import ConfigError
from mmpt.media import encode_png


def png(value: int) -> bytes:
    return encode_png(Picture.fromarray(np.full((4, 5, 3), value, dtype=np.uint8)))


def read(folder: Path | str, **changes) -> list:
    config = Html(folder=str(folder), **changes)
    return list(config.documents())


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
        "after.\n\n- first\n- second\n\nkeep   this\n  as it is",
        ("", png(1)),
        ("", png(2)),
        ("in the page", png(9)),
        "a\tb",
    ]
    assert document.meta == {"path": "sub/page.html", "title": "A title", "language": "fr"}
    lost = [one.reason for one in found if isinstance(one, Lost)]
    assert "`drop`" in lost[0] and "not fetched" in lost[1] and "no such file" in lost[2] and len(lost) == 3


def test_pages_that_mean_harm_or_nothing(tmp_path):
    (tmp_path / "deep.html").write_text("<div>" * 3000 + "deep" + "</div>" * 3000)
    (tmp_path / "empty.html").write_text("")
    (tmp_path / "out.html").write_text('text <img src="../../../etc/passwd"><img src="data:image/png;base64,AAAA">')
    found = {one.id if isinstance(one, Document) else one.document: one for one in read(tmp_path, name="p") if one}
    assert isinstance(found["p/empty.html"], Lost)
    reasons = [one.reason for one in read(tmp_path, name="p") if isinstance(one, Lost) and one.document == "p/out.html"]
    assert "leads out" in reasons[0] and "no picture" in reasons[1]
    assert found["p/deep.html"].parts[0].text == "deep"
    with pytest.raises(ConfigError, match="no .html"):
        read(tmp_path / "none") if (tmp_path / "none").mkdir() is None else None


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "images").mkdir()
    for value in range(6):
        (tmp_path / "images" / f"{value}.png").write_bytes(png(value))
    return tmp_path


def parts(folder: Path, page: str | bytes, **changes) -> list:
    (folder / "page.html").write_bytes(page.encode() if isinstance(page, str) else page)
    (document,) = [found for found in read(folder, **changes) if isinstance(found, Document)]
    return [part.data if isinstance(part, Image) else part.text for part in document.parts]


texts = st.text(st.sampled_from("ab é<&>\"'\n\t¥"), min_size=1, max_size=12).filter(lambda text: text.strip())
wrappers = st.sampled_from([
    "<p>{}</p>", "<p>{}", "<div><div>{}</div></div>", "<h2>{}</h2>", "<ul><li>{}</ul>", "<blockquote><p>{}</blockquote>",
    "<table><tr><td>{}</table>", "<section><!-- <img src=x> -->{}</section>", "<td>{}</td>", "<p><b><i>{}</b></i>",
    "<pre>{}</pre>", "</body>{}", "<head><meta>{}",
])  # fmt: skip


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(wrappers, st.one_of(texts, st.integers(0, 5))), min_size=1, max_size=12))
def test_any_order_of_text_and_pictures_comes_back(folder, content):
    page, expected = "", []
    for wrapper, item in content:
        page += wrapper.format(f'<img src="images/{item}.png">' if isinstance(item, int) else escapes.escape(item)) + " "
        if isinstance(item, int):
            expected.append(png(item))
        elif expected and isinstance(expected[-1], list):
            expected[-1] += item.split()
        else:
            expected.append(item.split())
    found = [part if isinstance(part, bytes) else [w for w in part.split() if w != "-"] for part in parts(folder, page)]
    assert found == expected


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["<", ">", "</", "<!", "<![", "]]>", "<?", "--", "p", "li", "ol", "tr", "td", "pre", "img", "br",
                                 " src=", "'", '"', "images/0.png", "data:,", "&", "#x110000;", "&#0;", "x",
                                 " ", "\n", "\0"])))  # fmt: skip
def test_no_markup_makes_it_fail(folder, pieces):
    (folder / "page.html").write_text("".join(pieces))
    assert all(isinstance(found, Document | Lost) for found in read(folder))


def test_what_a_page_shows_late_or_keeps_as_it_is(folder):
    lazy = '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" data-src="images/1.png">'
    lazy += '<noscript><img src="images/2.png"></noscript>'
    assert parts(folder, lazy) == [png(1)]
    assert parts(folder, "<pre>\n  a\n\n\n\n b\n</pre><p>x   y<pre>  c</pre>") == ["  a\n\n\n\n b\n\nx y\n\n  c"]
    steps = "<ol start=3><li><p>three</p><li>four<ul><li>a<li>b</ul><li></ol><p>&nbsp;</p>end"
    assert parts(folder, steps) == ["3. three\n\n4. four\n   - a\n   - b\n\nend"]
    assert parts(folder, "<table><tr><td>1<td><td>3<tr><th>a</th> <th>b</th></table>") == ["1\t\t3\na\tb"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"<p>\xc3\xa9t\xc3\xa9", "été"),
        (b"\xef\xbb\xbf<p>\xc3\xa9", "é"),
        ("\ufeff<p>été".encode("utf-16-le"), "été"),
        (b'<meta charset="iso-8859-1"><p>\x93\xe9\x94', "“é”"),
        (b'<meta http-equiv="Content-Type" content="text/html; charset=Shift_JIS"><p>' + "日本".encode("cp932"), "日本"),
    ],
)
def test_the_declared_encoding_counts(folder, data, text):
    assert parts(folder, data) == [text]


def test_nothing_is_guessed_and_mistakes_are_named(folder):
    (folder / "a.html").write_bytes(b"<p>caf\xe9 \xff\x81")
    (folder / "b.html").write_bytes(b"<meta charset='no such'><p>x")
    (folder / "c.html").write_bytes(b"<b>" * 20_000)
    reasons = [lost.reason for lost in read(folder)]
    assert ["no text in utf-8" in reasons[0], "no text in no" in reasons[1], "deep" in reasons[2]] == [True] * 3
    with pytest.raises(ConfigError, match=r"'p\[' is no CSS selector[^$]*'a::b' is no CSS selector[^$]*no such folder"):
        read(folder / "none", drop=("p[", "b", "a::b"))


def test_every_picture_that_cannot_be_had_is_listed_with_its_line(folder):
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = png(0)[:8] + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + png(0)[33:]
    (folder / "images" / "bomb.png").write_bytes(bomb)
    (folder / "images" / "empty.png").write_bytes(b"")
    (folder / "secret.png").symlink_to("/etc/passwd")
    cases = [
        ("none.png", "no such file"), ("images/0.png", ""), ("images/empty.png", "0 bytes"),
        ("images/bomb.png", "3600000000 pixels"),
        ("../../secret.png", "leads out"), ("secret.png", "no picture"), ("https://x.org/a.png", "not fetched"),
        ("//x.org/a.png", "not fetched"), ("http://[x/a.png", "no reference"), ("", "names no file"), ("images/", "irectory"),
        ("data:image/png;base64,????", "no base64"), ("data:,x", "no picture"), ("data:image/png;base64,", "0 bytes"),
        ("a" * 5000, "too long"), ("%00.png", "no name"), ("images/1.png", ""),
    ]  # fmt: skip
    (folder / "page.html").write_text("\n".join(f"<p>{n}<img src='{target}'>" for n, (target, _) in enumerate(cases)))
    *lost, document = read(folder)
    assert " ".join(p.text for p in document.parts if isinstance(p, Text)).split() == [str(n) for n in range(len(cases))]
    assert [part.data for part in document.parts if isinstance(part, Image)] == [png(0), png(1)]
    bad = [(line, reason) for line, (_, reason) in enumerate(cases, 1) if reason]
    assert len(lost) == len(bad)
    for found, (line, reason) in zip(lost, bad, strict=True):
        assert reason in found.reason and f"page.html, line {line}: " in found.item and not found.whole, (found, reason)
        assert len(found.item) < 400 and found.document == document.id


GIF = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<img src='images/1.png' data-src='https://x.org/1.png'>", [1]),  # saved by a browser
        (f"<img src='{GIF}' data-original='images/1.png'><img src='{GIF}' data-lazy-src='images/2.png'>", [1, 2]),
        (f"<img src='{GIF}' data-srcset='images/1.png 1x, images/2.png 2x'>", [2]),
        ("<img srcset='images/1.png 100w, images/2.png 2000w' src='images/1.png'>", [2]),
        (f"<img class=lazy src='{GIF}'><noscript><img src='images/3.png'></noscript><noscript>text</noscript>", [3]),
        (f"<p><noscript><img src='images/3.png'></noscript><img src='{GIF}' data-src='https://x.org/3.png'>", [3]),
        ("<head><base href='images/'></head><img src='1.png'><img src='/images/2.png'>", [1, 2]),
        ("<picture><source srcset='images/1.png'></picture>", [1]),
        ("<picture><source srcset='x.avif'><img src='images/2.png'></picture>", [2]),
        ("<picture><source srcset='images/1.png' media='print'><img src='images/2.png'></picture>", [2]),
        ("<object data='images/1.png'>x</object><embed src='images/2.png'><input type=image src='images/3.png'>", [1, 2, 3]),
        ("<video poster='images/1.png'></video><object data=x.pdf><img src='images/2.png'></object>", [1, 2]),
        ("<table><image src=images/0.png><img src='images/1.png'><tr><td><img src='images/2.png'></table>", [0, 1, 2]),
        ("<aside><img src='images/1.png'></aside><p hidden>no<p><img src='images\\2.png'>", [1, 2]),
        ("<textarea><img src=images/1.png></textarea><template><img src=images/1.png></template><img src='images/2.png'>", [2]),
    ],
)  # fmt: skip
def test_the_picture_is_the_one_that_a_browser_shows(folder, page, expected):
    assert [part for part in parts(folder, page) if isinstance(part, bytes)] == [png(value) for value in expected]


def test_what_is_drawn_left_out_or_behind_the_text_is_listed(folder):
    (folder / "page.html").write_text(
        f"""<nav><img src="images/1.png"></nav>x<svg><title>Logo</title><image href="images/2.png"/></svg>
<div style="background: url('images/3.png')">y</div><p style="display: none"><img src="images/4.png">z</p>
<img src="{GIF}" data-src="https://x.org/5.png">"""
    )
    *lost, document = read(folder)
    assert [part.text for part in document.parts] == ["x\n\ny"]
    listed = [(one.item.partition("page.html, ")[2], one.rule) for one in lost]
    assert listed == [
        ("line 1: images/1.png", "drop"), ("line 1: <svg> Logo", ""), ("line 1: images/2.png", ""), ("line 2: images/3.png", ""),
        ("line 2: images/4.png", "drop"), ("line 3: https://x.org/5.png", ""),
    ]  # fmt: skip
    assert all(one.reason and not one.whole for one in lost)


def test_formulas_keep_their_tex_or_their_characters(folder):
    page = """is <math alttext="\\pi r"><mi>r</mi></math>, <math display=block><mi>x</mi><annotation
 encoding="application/x-tex">x_1</annotation></math> and <math><mi>y</mi><mo>=</mo><mn>2</mn></math>."""
    assert parts(folder, page) == ["is $\\pi r$, $$x_1$$ and y=2."]


blocks = st.recursive(
    st.integers(0, 9).map(lambda number: f"<img src=images/{number}.png>"),
    lambda inner: st.builds(
        lambda form, some: form.replace("{}", "".join(some)),
        st.sampled_from([
            "<div>{}</div>", "<p>{}", "<b><p>{}</b>", "<ul><li>{}<li>{}</ul>", "<table><tr><td>{}</table>", "<table>{}</table>",
            "<nav>{}</nav>", "<svg></svg>{}", "<a href=x>{}</a>", "<noscript>{}</noscript>x", "<blockquote>{}", "<figure>{}",
            "<picture>{}</picture>", "<object data=x.pdf>{}</object>", "<details><summary>{}</details>", "<pre>\n{}</pre>",
        ]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(blocks)
def test_every_picture_of_any_nesting_is_in_the_document_or_listed(folder, page):
    """images/6.png to 9.png are missing."""
    (folder / "page.html").write_text(page + "end")
    found = read(folder)
    (document,) = [one for one in found if isinstance(one, Document)]
    there = {part.data for part in document.parts if isinstance(part, Image)}
    listed = {one.item.rpartition(": ")[2] for one in found if isinstance(one, Lost)}
    shown = set(re.findall(r"src=(images/\d.png)", page))
    assert all(name in listed or png(int(name[7])) in there for name in shown)


def test_a_remote_folder_reads_the_same(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "page.html").write_text("see <img src='../images/1.png'> and <img src='/images/2.png?x#y'>")
    remote = Store("memory://html-test/tree")
    for name in Store(folder).files():
        remote.write(name, (folder / name).read_bytes())
    (document,) = read("memory://html-test/tree", name="x")
    assert [document] == read(folder, name="x") and [len(part.data) for part in document.parts[1::2]] == [
        len(png(1)),
        len(png(2)),
    ]
