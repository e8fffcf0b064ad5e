"""EPUB books as EbookLib writes them: the spine's order, pictures in place, and archives that mean harm."""

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from ebooklib import epub
from PIL import Image as Picture

from mmpt.config import parse_config
from mmpt.data.build import BuildConfig, documents
from mmpt.data.formats import archive
from mmpt.data.lost import Lost
from mmpt.data.sources.epub import Epub
from mmpt.document import Document, Text
from mmpt.errors import ConfigError
from mmpt.media import encode_png


def png(value: int) -> bytes:
    return encode_png(Picture.fromarray(np.full((4, 5, 3), value, dtype=np.uint8)))


def read(folder: Path, **settings) -> list:
    return list(documents(parse_config({"sources": [{"kind": "epub", "folder": str(folder), **settings}]}, BuildConfig, "t")))


def shape(document: Document) -> list:
    return [part.text if isinstance(part, Text) else part.data for part in document.parts]


CHAPTERS = {
    "text/two.xhtml": '<h1>Two</h1><a id="anchor"/><p>Before<img src="../img/a%20b.png" alt="A &amp; B"/>after <em/>it.</p>',
    "one.xhtml": '<p>The first, shown second &#8212; here.</p><img src="img/1.png"/><img src="img/gone.png"/>',
    "cover.xhtml": '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"><title>Cover</title>'
    '<image xlink:href="img/1.png" width="5" height="4"/></svg><div hidden="hidden">not <img src="img/1.png"/> seen</div>',
}


def write(path: Path) -> Path:
    book = epub.EpubBook()
    book.set_title("A Book")
    book.set_language("en-GB")
    book.add_author("A. Writer")
    book.add_author("B. Writer")
    pages = [
        epub.EpubHtml(title=name, file_name=name, content=f"<html><body>{body}</body></html>") for name, body in CHAPTERS.items()
    ]
    for name, value in (("img/a b.png", 1), ("img/1.png", 2)):
        book.add_item(epub.EpubItem(file_name=name, media_type="image/png", content=png(value)))
    for page in pages:
        book.add_item(page)
    book.add_item(epub.EpubNcx())
    book.spine = [pages[2], pages[0], pages[1]]
    epub.write_epub(str(path), book)
    return path


def test_the_pages_of_the_spine_with_their_pictures(tmp_path):
    write(tmp_path / "book.epub")
    found = read(tmp_path, license="CC0-1.0")
    hidden, cover, two, gone, one = found
    assert shape(cover) == [png(2)] and cover.parts[0].alt == "Cover"
    assert hidden.rule == "drop" and "img/1.png" in hidden.item
    assert shape(two) == ["Two\n\nBefore", png(1), "after it."] and two.parts[1].alt == "A & B"
    assert shape(one) == ["The first, shown second — here.", png(2)]
    assert "img/gone.png" in gone.item and gone.bad_part and gone.document == one.id
    about = {"path": "book.epub", "page": 1, "title": "A Book", "authors": "A. Writer, B. Writer"}
    assert two.meta == {**about, "language": "en", "license": "CC0-1.0"}


def test_formulas_are_tex(tmp_path):
    formula = b'<math xmlns="http://www.w3.org/1998/Math/MathML"><mfrac><mn>1</mn><mi>x</mi></mfrac></math>'
    repacked(write(tmp_path / "a.epub"), one_xhtml=b"<html><body><p>It is " + formula + b", so</p></body></html>")
    assert shape(read(tmp_path)[-1]) == [r"It is $\frac{1}{x}$, so"]


def test_a_picture_may_be_a_page(tmp_path):
    path = write(tmp_path / "book.epub")
    with zipfile.ZipFile(path) as book:
        package = next(book.read(name) for name in book.namelist() if name.endswith(".opf"))
    item = package.partition(b'href="img/a b.png"')[2].partition(b'id="')[2].partition(b'"')[0]
    repacked(path, content_opf=package.replace(b"</spine>", b'<itemref idref="' + item + b'"/></spine>'))
    assert shape(read(tmp_path)[-1]) == [png(1)]


def repacked(path: Path, **changed: bytes) -> None:
    """The archive with the content of some files changed, by the end of their names."""
    with zipfile.ZipFile(path) as old:
        files = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in files.items():
            new.writestr(name, next((one for end, one in changed.items() if name.endswith(end.replace("_", "."))), data))


@pytest.mark.parametrize(
    ("page", "told"),
    [
        (b'<!DOCTYPE html [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><html><body>&b;</body></html>', "declares entities"),
        (b'<!DOCTYPE html [<!ENTITY x SYSTEM "file:///etc/hostname">]><html><body>&x;</body></html>', "declares entities"),
        (b"", "nothing in it"),
    ],
)
def test_entities_are_not_expanded(tmp_path, page, told):
    repacked(write(tmp_path / "book.epub"), one_xhtml=page)
    found = read(tmp_path)
    assert [one.reason for one in found if isinstance(one, Lost) and one.whole] == [
        one for one in [found[-1].reason] if told in one
    ]
    assert len([one for one in found if isinstance(one, Document)]) == 2


def test_pages_that_are_no_xml_are_read_as_html(tmp_path):
    page = b'<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "x.dtd"><html><body><p>a&nbsp;b&mdash;c &lt;d&gt;'
    repacked(write(tmp_path / "a.epub"), one_xhtml=page + b"</p></body></html>", two_xhtml=page + b"<br>e</body>")
    texts = [shape(one)[0] for one in read(tmp_path) if isinstance(one, Document)]
    assert texts[1:] == ["a\xa0b—c <d>\ne", "a\xa0b—c <d>"]


def test_pictures_outside_of_the_book_are_not_read(tmp_path):
    (tmp_path / "secret.png").write_bytes(png(9))
    page = b'<html><body>x<img src="../../secret.png"/><img src="/secret.png"/><img src="file:///secret.png"/></body></html>'
    repacked(write(tmp_path / "a.epub"), one_xhtml=page)
    found = read(tmp_path)
    assert shape(found[-1]) == ["x"]
    assert [one.reason for one in found[-4:-1]][0] == "leads out of the folder" and "not in the folder" in found[-2].reason


def test_archives_that_unpack_to_too_much_and_damaged_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(archive.Archive.read, "__defaults__", (1 << 20,))
    path = write(tmp_path / "a.epub")
    repacked(path, **{"1_png": bytes(4 << 20)})
    large = [one for one in read(tmp_path) if isinstance(one, Lost) and "at most 1048576 are unpacked" in one.reason]
    assert len(large) == 2
    data = path.read_bytes()
    # A file of which the archive says that it is small: no more than that is unpacked, and the sum is wrong.
    with zipfile.ZipFile(io.BytesIO(data)) as whole:
        info = whole.getinfo(next(name for name in whole.namelist() if name.endswith("1.png")))
    size = info.file_size.to_bytes(4, "little")
    path.write_bytes(data.replace(size, (100).to_bytes(4, "little")))
    assert any("cannot be unpacked" in one.reason for one in read(tmp_path) if isinstance(one, Lost))
    random = np.random.default_rng(0)
    for _ in range(30):
        first = int(random.integers(len(data)))
        path.write_bytes(data[:first] + random.bytes(20) + data[first + 20 :])
        assert all(isinstance(one, Document | Lost) for one in read(tmp_path))
    path.write_bytes(zlib.compress(b"x"))
    (lost,) = read(tmp_path)
    assert lost.bad and "no archive" in lost.reason


def test_what_is_wrong_with_the_settings_is_told(tmp_path):
    write(tmp_path / "a.epub")
    with pytest.raises(ConfigError, match="no CSS selector"):
        Epub(folder=str(tmp_path), drop=("[",)).units()
    with pytest.raises(ConfigError, match=r"no \.epub in it that matches 'x'"):
        Epub(folder=str(tmp_path), files="x").units()
