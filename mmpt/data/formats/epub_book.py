"""An EPUB (w3.org/TR/epub-33): what its package says of it, and its pages in the order of the spine."""

import re
from html.entities import html5
from typing import NamedTuple
from urllib.parse import unquote

from mmpt.data.extra import need
from mmpt.data.formats.archive import Archive
from mmpt.data.formats.html_text import decoded
from mmpt.data.formats.html_tree import Page
from mmpt.data.formats.mathml import tex
from mmpt.data.formats.references import target_name
from mmpt.data.formats.xml_tree import local_name, words_of, xml_root
from mmpt.errors import DataError

_CONTAINER = "META-INF/container.xml"
_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]*;)")
_DOCTYPE = re.compile(r"<!DOCTYPE[^>\[]*>", re.IGNORECASE)
_LINK = "{http://www.w3.org/1999/xlink}href"


class Book(NamedTuple):
    """`spine` has the name of each page in the archive, which may be a picture, `problems` what of it cannot be a page."""

    title: str
    authors: str
    language: str
    rights: str
    spine: list[str]
    problems: list[tuple[str, str]]


def book_of(archive: Archive) -> Book:
    """Raises `DataError` where the archive is no EPUB, or one that is encrypted."""
    container = xml_root(archive.read(_CONTAINER))
    package = next((unquote(one.get("full-path", "")) for one in container.iter("{*}rootfile")), "")
    if not package:
        raise DataError(f"{_CONTAINER} names no package")
    root = xml_root(archive.read(package))
    kinds = {one.get("id"): (one.get("href", ""), one.get("media-type", "")) for one in root.iter("{*}item")}
    spine, problems = [], []
    for reference in root.iter("{*}itemref"):
        target, kind = kinds.get(reference.get("idref"), ("", ""))
        try:
            name = target_name(package, target)
            if kind not in _PAGES and not kind.startswith("image/"):
                raise DataError(f"of the type {kind or 'unknown'}, no page")
            if not archive.exists(name):
                raise DataError("no such file")
            spine.append(name)
        except DataError as problem:
            problems.append((target or str(reference.get("idref")), str(problem)))
    if not spine:
        raise DataError("no page in its spine")
    told = {name: [words_of(one) for one in root.iter(f"{{*}}{name}")] for name in ("title", "creator", "language", "rights")}
    first = {name: next(filter(None, found), "") for name, found in told.items()}
    return Book(first["title"], ", ".join(told["creator"]), first["language"], first["rights"], spine, problems)


def page_of(archive: Archive, name: str) -> Page:
    """A page as a tree. XHTML is read as XML, in which an empty element may be written <a/>; where it is none, as HTML is.

    Raises `DataError`.
    """
    data = archive.read(name, 32 << 20)
    text = decoded(data) if not data.startswith(b"<?xml") else _xml_text(data)
    try:
        entities = _ENTITY.sub(_character, _DOCTYPE.sub("", text, count=1))
        root = xml_root(re.sub(r"^\s*<\?xml[^>]*\?>", "", entities).encode())
    except DataError as problem:
        if "declares entities" in str(problem):
            raise
        return Page(text)
    for drawing in [one for one in root.iter("{*}svg")]:
        _as_picture(drawing)
    for formula in [one for one in root.iter("{*}math")]:
        _as_text(formula)
    for node in root.iter("{*}*"):
        node.tag = local_name(node)  # HTML knows no prefixes
    return Page(need("lxml.etree").tostring(root, method="html", encoding="unicode"))


def _xml_text(data: bytes) -> str:
    declared = re.match(rb"<\?xml[^>]*encoding\s*=\s*[\"']([A-Za-z0-9._-]+)", data)
    return decoded(data, declared[1].decode() if declared else "utf-8")


def _character(entity: re.Match) -> str:
    """A named character of HTML; the five of XML stay."""
    found = html5.get(entity[1], "")
    return found if found and entity[1] not in ("lt;", "gt;", "amp;", "quot;", "apos;") else entity[0]


def _as_text(formula) -> None:
    """A formula as TeX."""
    found, tail = tex(formula), formula.tail
    if formula.get("display") == "block" and found:
        found = f"${found}$"
    formula.clear()
    formula.tag, formula.text, formula.tail = "span", found, tail


def _as_picture(drawing) -> None:
    """An <svg> that shows one picture and nothing else, as covers do, becomes an <img>."""
    shapes = [one for one in drawing.iterdescendants("{*}*") if local_name(one) not in ("g", "title", "desc", "metadata")]
    if len(shapes) != 1 or local_name(shapes[0]) != "image" or words_of(shapes[0]):
        return
    target = shapes[0].get(_LINK) or shapes[0].get("href") or ""
    alt = next((words_of(one) for one in drawing.iter("{*}title", "{*}desc")), "")
    tail = drawing.tail
    for child in list(drawing):
        drawing.remove(child)
    drawing.attrib.clear()
    drawing.text, drawing.tail, drawing.tag = None, tail, "img"
    drawing.set("src", target)
    drawing.set("alt", alt)
