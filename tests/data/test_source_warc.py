"""Web archives as warcio writes them: the page's own text, pictures in place, and what lies behind a broken record."""

import gzip
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from warcio.archiveiterator import ArchiveIterator
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from mmpt.config import parse_config
from mmpt.data.build import BuildConfig, documents
from mmpt.data.formats import warc
from mmpt.data.lost import Lost
from mmpt.data.sources.warc import NOT_CRAWLED, Warc
from mmpt.document import Document, Text
from mmpt.errors import ConfigError
from mmpt.media import encode_png

LONG = "The {0} paragraph tells at some length of the ship that went out to sea, of its crew of twelve, and of a great storm."
PAGE = f"""<!doctype html><html lang="en-GB"><head><title>The ship</title></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/about">About us</a></li></ul><img src="/logo.png"></nav>
<article><h1>The ship</h1><p>{LONG.format("first")}</p>
<figure><img src="pics/a?size=1" alt="a mast"><figcaption>Its mast, drawn</figcaption></figure>
<p>{LONG.format("second")}</p><img data-src="b.png" src="data:image/gif;base64,R0lGODlhAQABAAAAACw="><p>{LONG.format("third")}</p>
<img src="https://elsewhere.org/c.png"><p>{LONG.format("fourth")}</p></article>
<footer>Copyright, imprint, cookies</footer></body></html>"""


def png(value: int) -> bytes:
    return encode_png(Picture.fromarray(np.full((8, 9, 3), value, dtype=np.uint8)))


def archive(path: Path, *records: tuple, packed: bool = True) -> Path:
    """(address, type, bytes, status, more headers) each."""
    with open(path, "wb") as file:
        writer = WARCWriter(file, gzip=packed)
        writer.write_record(writer.create_warcinfo_record(path.name, {"software": "test"}))
        for url, kind, data, status, *headers in records:
            answer = StatusAndHeaders(status, [("Content-Type", kind), *headers], protocol="HTTP/1.1")
            writer.write_record(writer.create_warc_record(url, "response", payload=io.BytesIO(data), http_headers=answer))
    return path


def read(folder: Path, **settings) -> list:
    return list(documents(parse_config({"sources": [{"kind": "warc", "folder": str(folder), **settings}]}, BuildConfig, "t")))


def shape(document: Document) -> list:
    return [part.text if isinstance(part, Text) else part.data for part in document.parts]


@pytest.mark.parametrize("packed", [True, False])
def test_the_main_content_with_pictures_in_place(tmp_path, packed):
    records = [
        ("http://x.org/dir/ship.html", "text/html; charset=utf-8", PAGE.encode(), "200 OK"),
        ("http://x.org/dir/pics/a?size=1", "image/png", png(1), "200 OK"),
        ("http://x.org/dir/b.png", "image/png", gzip.compress(png(2)), "200 OK", ("Content-Encoding", "gzip")),
        ("http://x.org/logo.png", "image/png", png(3), "200 OK"),
        ("http://x.org/gone", "text/html", b"not found", "404 Not Found"),
        ("http://x.org/x.css", "text/css", b"a {}", "200 OK"),
    ]
    archive(tmp_path / ("a.warc.gz" if packed else "a.warc"), *records, packed=packed)
    logo, elsewhere, found, others = read(tmp_path, license="x")
    first, one, second, two, third, fourth = shape(found)
    assert first == f"The ship\n\n{LONG.format('first')}"
    assert (one, two) == (png(1), png(2)) and found.parts[1].alt == "a mast"
    assert second == f"Its mast, drawn\n\n{LONG.format('second')}"
    assert (third, fourth) == (LONG.format("third"), LONG.format("fourth"))
    assert "Copyright" not in str(shape(found)) and "About us" not in str(shape(found))
    assert found.meta == {"url": "http://x.org/dir/ship.html", "title": "The ship", "language": "en", "license": "x"}
    assert logo.rule == "boilerplate" and "1 picture outside" in logo.reason
    assert elsewhere.rule == NOT_CRAWLED and "https://elsewhere.org/c.png" in elsewhere.item
    assert others.reason == "2 records that are no pages: 1 status 404, 1 text/css"


def pages(number: int) -> list[tuple]:
    return [(f"http://x.org/{n}", "text/html", PAGE.replace("mast", f"mast{n}").encode(), "200 OK") for n in range(number)]


def test_a_record_without_digest_that_is_cut_short_is_listed(tmp_path):
    path = archive(tmp_path / "a.warc", *pages(2), packed=False)
    lines = [line for line in path.read_bytes().split(b"\r\n") if b"-Digest:" not in line]
    path.write_bytes(b"\r\n".join(lines)[:-500])
    found = read(tmp_path)
    assert numbers(found) == ["0"] and found[-1].bad and "cut short" in found[-1].reason


def numbers(found: list) -> list[str]:
    return [one.meta["url"].rpartition("/")[2] for one in found if isinstance(one, Document)]


def starts(path: Path) -> list[int]:
    """Where warcio says that each response begins."""
    with open(path, "rb") as file:
        records = ArchiveIterator(file)
        return [records.get_record_offset() for record in records if record.rec_type == "response"]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("damage", ["bytes", "hole", "more", "end"])
def test_reading_goes_on_behind_a_broken_record(tmp_path, packed, damage):
    path = archive(tmp_path / ("a.warc.gz" if packed else "a.warc"), *pages(5), packed=packed)
    data, begin = path.read_bytes(), starts(path)
    middle = (begin[2] + begin[3]) // 2
    spoiled = {
        "bytes": data[:middle] + b"\xff\x00\x13" * 20 + data[middle + 60 :],
        "hole": data[:middle] + data[middle + 60 :],
        "more": data[:middle] + b"garbage" * 20 + data[middle:],
        "end": data[: begin[4] + 100],
    }[damage]
    path.write_bytes(spoiled)
    found = read(tmp_path)
    broken = "4" if damage == "end" else "2"
    assert numbers(found) == [n for n in "01234" if n != broken]
    assert any(isinstance(one, Lost) and one.whole and not one.rule for one in found)


def test_no_damage_ends_in_a_traceback_or_in_a_page_of_another(tmp_path):
    path = archive(tmp_path / "a.warc.gz", *pages(3))
    data, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(40):
        first = int(random.integers(len(data)))
        last = first + int(random.choice([1, 30, 500]))
        piece = random.bytes(last - first)
        path.write_bytes(data[:first] + (piece if random.random() < 0.5 else b"") + data[last:])
        found = read(tmp_path)
        for one in found:
            if isinstance(one, Document):
                assert one.parts[0].text.count("first paragraph") == 1
        assert len(numbers(found)) < 3 or any(isinstance(one, Lost) for one in found)


def test_what_unpacks_to_too_much_is_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(warc, "MAX_BYTES", 1 << 20)
    bomb = gzip.compress(b"<p>" + b"a" * (64 << 20))
    archive(
        tmp_path / "a.warc.gz",
        ("http://x.org/bomb", "text/html", bomb, "200 OK", ("Content-Encoding", "gzip")),
        ("http://x.org/large", "text/html", b"b" * (2 << 20), "200 OK"),
        *pages(1),
    )
    unpacked, large, *rest = read(tmp_path)
    assert "unpacked of more than" in unpacked.reason and "at most 1048576" in large.reason
    assert numbers(rest) == ["0"]


def test_encodings_and_pages_without_text_of_their_own(tmp_path):
    text = LONG.format("“größte”")
    body = f"<html><body><article><h1>Ä</h1><p>{text}</p><p>{text}</p></article></body></html>"
    archive(
        tmp_path / "a.warc.gz",
        ("http://x.org/1", "text/html; charset=windows-1252", body.encode("cp1252"), "200 OK"),
        ("http://x.org/2", "text/html", b"<html><body><nav><img src=a.png></nav><script>x()</script></body></html>", "200 OK"),
        ("http://x.org/3", "text/html; charset=utf-8", body.encode("cp1252"), "200 OK"),
    )
    found, _, empty, wrong = read(tmp_path)
    assert "“größte”" in found.parts[0].text
    assert empty.whole and empty.rule == "boilerplate" and wrong.bad and "no text in utf-8" in wrong.reason


def test_texts_of_common_crawl(tmp_path):
    with open(tmp_path / "a.warc.wet.gz", "wb") as file:
        writer = WARCWriter(file, gzip=True)
        kind = {"WARC-Identified-Content-Language": "deu,eng"}
        writer.write_record(
            writer.create_warc_record(
                "http://x.org/",
                "conversion",
                payload=io.BytesIO("Grüße\nZweite Zeile\n".encode()),
                warc_content_type="text/plain",
                warc_headers_dict=kind,
            )
        )
    (found,) = read(tmp_path)
    assert shape(found) == ["Grüße\nZweite Zeile"] and found.meta["language"] == "deu"


def test_pictures_of_a_download(tmp_path):
    downloaded = Path(__file__).parent / "img2dataset"
    page = PAGE.replace("https://elsewhere.org/c.png", "http://127.0.0.1:8923/3.jpg?a=%C3%A9&n=3")
    archive(tmp_path / "a.warc.gz", ("http://x.org/", "text/html", page.encode(), "200 OK"))
    shutil.copytree(downloaded / "webdataset", tmp_path / "d")
    *lost, found = read(tmp_path, downloads=str(tmp_path / "d"))
    assert [part for part in shape(found) if isinstance(part, bytes)] == [(downloaded / "web" / "3.jpg").read_bytes()]
    assert [one.reason for one in lost[1:]] == ["no such address in the download"] * 2
    with pytest.raises(ConfigError, match=r"no \.warc"):
        Warc(folder=str(downloaded)).units()
