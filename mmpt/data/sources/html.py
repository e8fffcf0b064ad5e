"""Documents from a tree of HTML files, each with its pictures in place.

sources: [{kind: html, folder: pages/, language: en}]
"""

import base64
import binascii
import re
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import unquote_to_bytes

from mmpt.data.extra import need
from mmpt.data.lost import Documents, Lost
from mmpt.data.parts import image_part
from mmpt.data.sources.base import SourceSchema, Unit, grouped, source_name
from mmpt.data.sources.markdown import MAX_BYTES, picture_name
from mmpt.data.store import Store
from mmpt.document import Document, Image, Text
from mmpt.errors import ConfigError, DataError

SUFFIXES = (".html", ".htm", ".xhtml")
_BLOCKS = {
    "address", "article", "blockquote", "body", "dd", "details", "div", "dl", "dt", "fieldset", "figcaption", "figure", "form",
    "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "ol", "p", "section", "summary", "table", "tr", "ul",
}  # fmt: skip
_NEVER = {"script", "style", "template", "noscript", "head", "svg", "math", "iframe", "object"}


class HtmlConfig(SourceSchema):
    """Every .html file below `folder`. Elements that match a CSS selector of `drop` go with all that is in them."""

    kind: Literal["html"] = "html"
    folder: str
    drop: tuple[str, ...] = ("nav", "footer", "aside", "[hidden]", "[aria-hidden=true]")
    language: str = ""
    license: str = ""


def units(config: HtmlConfig) -> list[Unit]:
    """Runs of files. Raises `ConfigError` where there is no folder, or no such file in it."""
    need("bs4")
    try:
        files = Store(config.folder).files()
    except DataError as problem:
        raise ConfigError(str(problem)) from None
    found = {name: size for name, size in files.items() if PurePosixPath(name).suffix.lower() in SUFFIXES}
    if not found:
        raise ConfigError(f"{config.folder}: no .html file in it")
    pictures = sum(size for name, size in files.items() if name not in found)
    return grouped(((name, size + pictures // len(found)) for name, size in found.items()), max_bytes=1 << 20)


def read(config: HtmlConfig, unit: Unit) -> Documents:
    """One document for each file: its title, then text and pictures in the order of the page."""
    store, source = Store(config.folder), source_name(config, config.folder)
    for name in unit.what:
        document_id = f"{source}/{name}"
        try:
            if store.size(name) > MAX_BYTES:
                raise DataError(f"of {store.size(name)} bytes, at most {MAX_BYTES} are read")
            page = need("bs4").BeautifulSoup(store.read(name), "html.parser")
        except (DataError, RecursionError) as problem:
            yield Lost(store.path(name), str(problem), document_id)
            continue
        for selector in config.drop:
            for element in page.select(selector):
                element.decompose()
        parts, run = [], ""
        title = " ".join(page.title.get_text().split()) if page.title else ""
        pieces = [f"{title}\n\n", *_pieces(page.body or page)]
        for piece in [*pieces, None]:
            if isinstance(piece, str):
                run += piece
                continue
            if text := _clean(run):
                parts.append(Text(text))
            run = ""
            if piece is not None:
                try:
                    parts.append(_picture(store, name, *piece))
                except DataError as problem:
                    yield Lost(f"{store.path(name)}: {piece[0][:200]}", str(problem), document_id, whole=False)
        if not parts:
            yield Lost(store.path(name), "nothing in it", document_id)
            continue
        language = config.language or str(page.html.get("lang", "") if page.html else "")
        meta = {"path": name, "title": title, "language": language, "license": config.license}
        yield Document(document_id, source, tuple(parts), {key: value for key, value in meta.items() if value})


def _pieces(element: object) -> list[str | tuple[str, str]]:
    """Text, and (address, alternative text) of each picture; blocks end with a blank line. Deep pages need no recursion."""
    bs4 = need("bs4")
    found: list[str | tuple[str, str]] = []
    stack: list[object] = [element]
    verbatim = 0
    while stack:
        node = stack.pop()
        if isinstance(node, str) and not isinstance(node, bs4.NavigableString):
            verbatim -= node == "/pre"
            found.append("\n\n" if node != "/cell" else " | ")
        elif isinstance(node, bs4.Comment | bs4.Doctype | bs4.CData | bs4.ProcessingInstruction):
            continue
        elif isinstance(node, bs4.NavigableString):
            found.append(f"\0{node}\0" if verbatim else re.sub(r"\s+", " ", node))
        elif node.name == "img":
            address = node.get("src") or node.get("data-src") or str(node.get("srcset", "")).split(",")[0].strip().split(" ")[0]
            if address:
                found.append((str(address), str(node.get("alt", ""))))
        elif node.name == "br":
            found.append("\n")
        elif node.name not in _NEVER:
            if node.name in _BLOCKS or node.name == "pre":
                found.append("\n\n")
                stack.append(f"/{node.name}")
                verbatim += node.name == "pre"
            elif node.name in ("td", "th"):
                stack.append("/cell")
            if node.name == "li":
                found.append("- ")
            stack.extend(reversed(list(node.children)))
    return found


def _clean(run: str) -> str:
    """Paragraphs with a blank line between them; what stood in `<pre>` keeps its spaces."""
    pieces = run.split("\0")
    for number in range(0, len(pieces), 2):
        text = re.sub(r"[ \t\xa0]+", " ", pieces[number])
        pieces[number] = re.sub(r" ?\n ?", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", "".join(pieces)).strip("\n ")


def _picture(store: Store, page: str, address: str, alt: str) -> Image:
    if not address.startswith("data:"):
        return image_part(store.read(picture_name(page, address)), alt)
    header, _, data = address[len("data:") :].partition(",")
    if len(data) > MAX_BYTES:
        raise DataError(f"picture of {len(data)} characters in the page, at most {MAX_BYTES} are decoded")
    try:
        content = (
            base64.b64decode(unquote_to_bytes(data), validate=False) if header.endswith("base64") else unquote_to_bytes(data)
        )
    except (binascii.Error, ValueError) as problem:
        raise DataError(f"no picture that can be decoded ({problem})") from None
    return image_part(content, alt)
