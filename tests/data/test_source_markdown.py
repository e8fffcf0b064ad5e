"""Markdown gives its text and pictures in the order in which a reader meets them; what is missing is listed with its line."""

import base64
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from mmpt.config import load_config
from mmpt.data.build import BuildConfig, documents
from mmpt.data.lost import Lost
from mmpt.data.sources.html import Html
from mmpt.data.sources.markdown import Markdown
from mmpt.data.store import Store
from mmpt.document import Document, Image, Text
from mmpt.errors import ConfigError
from mmpt.media import encode_png

ROOT = Path(__file__).resolve().parents[2]
GUIDES = ROOT.parent / "shared" / "data" / "guides"


def png(value: int) -> bytes:
    return encode_png(Picture.fromarray(np.full((4, 5, 3), value, dtype=np.uint8)))


def read(folder: Path | str, **changes) -> list:
    config = Markdown(folder=str(folder), **changes)
    return list(config.documents())


def one(folder: Path, text: str, **changes) -> list:
    """The parts of a file of this text, pictures as their alternative text and content."""
    (folder / "page.md").write_text(text, encoding="utf-8")
    (document,) = [found for found in read(folder, **changes) if isinstance(found, Document)]
    return [(part.alt, part.data) if isinstance(part, Image) else part.text for part in document.parts]


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "images").mkdir()
    for value in range(6):
        (tmp_path / "images" / f"{value}.png").write_bytes(png(value))
    (tmp_path / "images" / "a b.png").write_bytes(png(99))
    return tmp_path


def test_pictures_stand_where_they_stood(folder):
    text = """---
title: A page
---
# Title

Before ![zero](images/0.png "a title") after.

<div style="float: left">
Inside.
![one *bold*](images/1.png){:width="300px"}
</div>
<img src="images/2.png" alt="two &amp; more"/>

- first
- with ![three][ref] and `![code](images/5.png)`
  on two lines

1. number
   - nested

> quoted ![four](<images/a b.png>)

[![linked](images/4.png)](https://example.org)

```python
![not](images/5.png) <div>{:x}
--- task ---
```
--- task ---
End<!-- a
comment -->.{:.class}

[ref]: images/3.png
"""
    assert one(folder, text, drop_lines=("--- /?task ---",)) == [
        "# Title\n\nBefore",
        ("zero", png(0)),
        "after.\n\nInside.",
        ("one bold", png(1)),
        ("two & more", png(2)),
        "- first\n- with",
        ("three", png(3)),
        "and `![code](images/5.png)`\n  on two lines\n\n1. number\n   - nested\n\n> quoted",
        ("four", png(99)),
        ("linked", png(4)),
        "```python\n![not](images/5.png) <div>{:x}\n--- task ---\n```\n\nEnd.{:.class}",
    ]


words = st.text(st.sampled_from("abc déé.,"), min_size=1, max_size=12).map(str.strip).filter(lambda text: text.strip("., "))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(words, st.integers(0, 5)), min_size=1, max_size=12), st.sampled_from(["\n\n", "\n", " "]))
def test_any_order_of_text_and_pictures_comes_back(folder, content, between):
    text = between.join(f"![p{item}](images/{item}.png)" if isinstance(item, int) else item for item in content)
    expected = []
    for item in content:
        if isinstance(item, int):
            expected.append((f"p{item}", png(item)))
        elif expected and isinstance(expected[-1], list):
            expected[-1].append(item)
        else:
            expected.append([item])
    found = [part if isinstance(part, tuple) else re.split(r"\s+", part) for part in one(folder, text)]
    assert found == [part if isinstance(part, tuple) else re.split(r"\s+", " ".join(part)) for part in expected]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('Use `<br>`, ``<img src="images/0.png">`` and `{:x}`{:.y}.', ['Use `<br>`, ``<img src="images/0.png">`` and `{:x}`.']),
        ("1. step\n\n   ```html\n   <p>x</p>\n   ```\n\n2. next", ["1. step\n\n   ```html\n   <p>x</p>\n   ```\n\n2. next"]),
        ("end\n\n    <div>indented</div>", ["end\n\n    <div>indented</div>"]),
        ("a \0990\0 b", ["a \N{REPLACEMENT CHARACTER}990\N{REPLACEMENT CHARACTER} b"]),
        ("-\n\ntext", ["text"]),
        ("- ```\n  code\n  ```\n\nafter", ["- ```\n  code\n  ```\n\nafter"]),
        ("# ![x](images/0.png)\n\n> ![y](images/1.png)", [("x", png(0)), ("y", png(1))]),
        ("1. ![x](images/0.png) press\n2. go", [("x", png(0)), "1. press\n2. go"]),
    ],
)
def test_code_is_kept_and_no_mark_stands_alone_or_at_another_text(folder, text, parts):
    assert one(folder, text) == parts


@pytest.mark.parametrize(
    ("text", "pictures", "words"),
    [
        ('<table>\n  <tr>\n      <td>\n        <img src="images/0.png"></td>\n    </tr>\n</table>\n\nend', [0], "end"),
        ('<p align="center">\n        <img alt="a > b" src="images/0.png">\n</p>\n', [0], ""),
        ('!!! note "T"\n\n    Body.\n\n    ![](images/0.png)\n\n=== "Tab"\n\n    ![](images/1.png)\n\nend', [0, 1], "Body."),
        ("![x](images/a b.png) ![z](images/0.png =200x100)", [99, 0], ""),
        ("a ![[0.png]] b ![[images/1.png|300]] ![[note]]", [0, 1], "![[note]]"),
        ('{{< figure src="images/0.png" title="x" >}}\n\n![y]({{ site.baseurl }}/images/1.png)', [0, 1], ""),
        ("import x from './images/0.png'\n\n<Image src={x} />\n\n<img src={require('./images/1.png').default} />\n", [0, 1], ""),
        ("<Zoom>\n\n![](images/0.png)\n\n</Zoom>", [0], ""),
        ("<div>\n![x](images/0.png){:width=3}\n- *a*\n</div>", [0], "- *a*"),
        ("x<a and y>b, List<a>, the <table> tag ![](images/0.png)", [0], "x<a and y>b, List<a>, the <table> tag"),
        ("<name>, a<br>b <b>c</b> ![](images/0.png)", [0], "<name>, a\nb c"),
        ("| a | b |\n|---|:-:|\n| `x | ![](images/0.png) |\n| y` | z |", [0], "| a | b |\n| --- | :---: |\n| `x |"),
        ("> - ![](images/0.png)\n>   more\n>\n>   > deep\n>   > lines", [0], "> - more\n>\n>   > deep\n>   > lines"),
        ("<div>\n\n    <img src='images/0.png'>\n\n</div>", [], "    <img src='images/0.png'>"),
        ("<picture><source media='x' srcset='images/1.png'><img src='images/0.png'></picture>", [0], ""),
        ("a <!-- ![](images/0.png) --> ![](images/1.png) $\\\\{x\\\\}$ *b* [c](d) <https://e.f>", [1], "$\\\\{x\\\\}$ *b* [c](d) <https://e.f>"),
    ],
)  # fmt: skip
def test_every_way_to_show_a_picture_is_read_and_other_text_is_kept(folder, text, pictures, words):
    found = one(folder, text) if pictures or words else []
    assert [part[1] for part in found if isinstance(part, tuple)] == [png(value) for value in pictures]
    assert words in "\n".join(part for part in found if isinstance(part, str))


@pytest.mark.parametrize(
    ("text", "title", "first"),
    [
        ("---\ntitle: 'A: b'\ntags: [x]\n---\ntext", "A: b", "# A: b\n\ntext"),
        ("---\ntitle: A\n---\n# Own\n", "A", "# Own"),
        ("+++\ntitle = 'A'\n+++\ntext", "A", "# A\n\ntext"),
        ("---\ntitle: {{ x }}: y\n---\ntext", "{{ x }}: y", "# {{ x }}: y\n\ntext"),
        ("---\ntext\n---\nmore", None, "---\n\n## text\n\nmore"),
    ],
)
def test_the_title_of_the_front_matter_is_kept(folder, text, title, first):
    (folder / "page.md").write_text(text)
    (document,) = read(folder)
    assert (document.meta.get("title"), document.parts[0].text) == (title, first)


blocks = st.recursive(
    st.tuples(
        st.sampled_from(["![x]({})", '<img alt="a > b" src="{}">', "![[{}]]", "*![y](<{}>)* w"]),
        st.integers(0, 9).map("images/{}.png".format),
    ).map(lambda pair: pair[0].format(pair[1])),
    lambda inner: st.builds(
        lambda form, some: form("\n\n".join(some)),
        st.sampled_from([
            lambda text: "- " + text.replace("\n", "\n  "),
            lambda text: "1. " + text.replace("\n", "\n   "),
            lambda text: "> " + text.replace("\n", "\n> "),
            lambda text: "!!! note\n    " + text.replace("\n", "\n    "),
            lambda text: '=== "Tab"\n\n    ' + text.replace("\n", "\n    "),
            lambda text: f"<div>\n\n{text}\n\n</div>",
            lambda text: f'<center>\n      <img src="images/3.png">\n</center>\n\n{text}',
            lambda text: f"{text} <b>w</b> List<a>",
        ]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=10,
)  # fmt: skip


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(blocks)
def test_every_picture_of_any_nesting_is_in_the_document_or_listed(folder, text):
    """images/6.png to 9.png are missing."""
    (folder / "page.md").write_text(text + "\n\nend")
    found = read(folder)
    (document,) = [item for item in found if isinstance(item, Document)]
    there = {part.data for part in document.parts if isinstance(part, Image)}
    listed = " ".join(item.item for item in found if isinstance(item, Lost))
    for number in set(re.findall(r"(\d)\.png", text)):
        assert png(int(number)) in there or f"{number}.png" in listed


def test_pictures_in_the_page_itself(folder):
    data = base64.b64encode(png(7)).decode()
    assert one(folder, f"a ![x](data:image/png;base64,{data}) b") == ["a", ("x", png(7)), "b"]


@pytest.mark.parametrize(
    ("text", "alt"),
    [
        ("![](images/1.png){alt='Bacteria colony, at 10 %'}", "Bacteria colony, at 10 %"),
        ('![](images/1.png){alt="The well\'s <edge>" .class width=30%}', "The well's <edge>"),
        ("![Figure 1](images/1.png){alt='a colony'}", "Figure 1 a colony"),
        ("![same](images/1.png){alt='same'}", "same"),
        ('![](images/1.png){fig-alt="as Quarto has it"}', "as Quarto has it"),
        ('![](images/1.png){: alt="as kramdown has it"}', "as kramdown has it"),
        ("[![](images/1.png){alt='in a link'}](x.html)", "in a link"),
        ("![](<images/1.png>){width=3}", ""),
    ],
)
def test_the_alternative_text_may_be_an_attribute(folder, text, alt):
    assert one(folder, f"Look:\n\n{text}\n\nand go on{{alt='x'}}") == ["Look:", (alt, png(1)), "and go on{alt='x'}"]


def test_what_is_missing_damaged_or_elsewhere_is_listed_and_the_rest_keeps_its_order(folder):
    (folder / "images" / "empty.png").write_bytes(b"")
    (folder / "images" / "cut.png").write_bytes(png(1)[:50])
    targets = ["none.png", "images/0.png", "images/empty.png", "images/cut.png", "../../secret.png", "https://x.org/a.png"]
    (folder / "secret.png").symlink_to("/etc/passwd")
    targets += ["secret.png", "images/1.png"]
    (folder / "page.md").write_text("\n\n".join(f"{n} ![]({target})" for n, target in enumerate(targets)))
    *lost, document = read(folder)
    assert [part.text for part in document.parts if isinstance(part, Text)] == [str(number) for number in range(8)]
    assert [part.data for part in document.parts if isinstance(part, Image)] == [png(0), png(1)]
    reasons = ["no such file", "0 bytes", "no picture that can be decoded", "leads out", "not fetched", "no picture"]
    assert len(lost) == len(reasons)
    for found, reason, line in zip(lost, reasons, (1, 5, 7, 9, 11, 13), strict=True):
        assert reason in found.reason and f"page.md, line {line}: " in found.item and not found.whole and not found.bad


def test_files_that_are_no_text_are_lost_whole_and_nothing_else_is(folder):
    (folder / "a.md").write_bytes(b"\xff\xfe\x00")
    (folder / "b.md").write_text("")
    (folder / "step_10.md").write_text("ten")
    (folder / "step_9.md").write_text("nine")
    found = read(folder, language="en", name="pages")
    assert [type(item) for item in found] == [Lost, Lost, Document, Document]
    assert [item.id for item in found[2:]] == ["pages/step_9.md", "pages/step_10.md"]
    assert found[2].meta == {"path": "step_9.md", "language": "en"} and found[2].source == "pages"


def test_a_remote_folder_reads_the_same(folder):
    (folder / "page.md").write_text("see ![x](images/1.png)")
    remote = Store("memory://markdown-test/tree")
    for name in Store(folder).files():
        remote.write(name, (folder / name).read_bytes())
    assert read("memory://markdown-test/tree", name="x") == read(folder, name="x")


def test_mistakes_of_the_specification_are_named(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        read(tmp_path / "none")
    with pytest.raises(ConfigError, match="no file matches"):
        read(tmp_path)
    with pytest.raises(ValueError, match="no regular expression"):
        Markdown(folder=".", files="(")
    with pytest.raises(ValueError, match="expected a group"):
        Markdown(folder=".", language_from="en")


@pytest.mark.skipif(not GUIDES.is_dir(), reason="no guides beside the repository")
def test_every_picture_of_the_guides_is_in_place_and_in_order(monkeypatch):
    monkeypatch.chdir(ROOT)
    config = load_config(Path("datasets/specs/guides.yaml"), BuildConfig)
    found = list(documents(config))
    pages = [item for item in found if isinstance(item, Document)]
    missing = [item for item in found if isinstance(item, Lost)]
    files = sorted(GUIDES.rglob("step_*.md"))
    assert len(pages) == len(files) and {page.meta["language"] for page in pages} == {"en", "fr"}
    absent = []
    for page in pages:
        path = GUIDES / page.meta["path"]
        targets = [unquote(target) for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))]
        absent += [target for target in targets if not (path.parent / target).is_file()]
        expected = [(path.parent / target).read_bytes() for target in targets if (path.parent / target).is_file()]
        assert [part.data for part in page.parts if isinstance(part, Image)] == expected
        text = "".join(part.text for part in page.parts if isinstance(part, Text))
        assert not re.search(r"!\[|</?div|\{:|^--- ", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    assert sorted(item.item.rpartition(": ")[2] for item in missing) == sorted(absent)
    assert set(absent) == {"images/rotated-costume.gif", "images/crank-sound-editor.png"}


def test_pictures_of_a_public_folder_are_found_from_the_root(tmp_path):
    for name in ("docs/public/a.png", "docs/public/in/b.png", "docs/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(7))
    (tmp_path / "docs" / "x.md").write_text("![](/a.png) ![](/in/b.png) ![](/docs/c.png) ![](a.png) ![](/gone.png)")
    (tmp_path / "docs" / "y.html").write_text('<img src="/a.png"><img src="/../docs/public/a.png">')
    for source, there in (("markdown", 3), ("html", 1)):
        kind = {"markdown": Markdown, "html": Html}[source]
        *_, found = kind(folder=str(tmp_path), public=("docs/public/",)).documents()
        assert sum(isinstance(part, Image) for part in found.parts) == there
        assert len([one for one in kind(folder=str(tmp_path)).documents() if isinstance(one, Lost)]) > 1
