"""Documents from a tree of HTML files, each with its pictures in place.

sources: [{kind: html, folder: pages/, drop: [nav, footer, aside, .cookies]}]
"""

import codecs
from pathlib import PurePosixPath
from typing import Literal

from mmpt.data.extra import need
from mmpt.data.lost import Documents, Lost
from mmpt.data.sources.base import SourceSchema, Unit, grouped, source_name
from mmpt.data.sources.html_blocks import html_blocks
from mmpt.data.sources.references import Picture, referred
from mmpt.data.store import Store
from mmpt.document import Document, Text
from mmpt.errors import ConfigError, DataError

SUFFIXES = (".html", ".htm", ".xhtml")
MAX_BYTES = 32 << 20
_WEB = {"iso8859-1": "cp1252", "ascii": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"}
"""Encodings that the web means otherwise than their names say (encoding.spec.whatwg.org), as Python names them."""


class HtmlConfig(SourceSchema):
    """Every .html file below `folder`. Elements that match a CSS selector of `drop` go with all that is in them.

    Without a `language`, the page's own (`<html lang>`) counts.
    """

    kind: Literal["html"] = "html"
    folder: str
    drop: tuple[str, ...] = ("nav", "footer", "aside", "[hidden]", "[aria-hidden=true]")
    language: str = ""
    license: str = ""


def units(config: HtmlConfig) -> list[Unit]:
    """Runs of files. Raises `ConfigError` where there is no folder, no such file in it, or a selector that is none."""
    mistakes = _mistaken_selectors(config)
    files, found = {}, {}
    try:
        files = Store(config.folder).files()
        found = {name: size for name, size in files.items() if PurePosixPath(name).suffix.lower() in SUFFIXES}
        if not found:
            mistakes.append(f"{config.folder}: no .html file in it")
    except DataError as problem:
        mistakes.append(str(problem))
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    pictures = sum(size for name, size in files.items() if name not in found)
    return grouped(((name, size + pictures // len(found)) for name, size in found.items()), max_bytes=1 << 20)


def read(config: HtmlConfig, unit: Unit) -> Documents:
    """One document for each file: its title, then text and pictures in the order of the page.

    A picture that is missing, damaged or elsewhere is listed, and the rest stays in order.
    """
    store, source = Store(config.folder), source_name(config, config.folder)
    for name in unit.what:
        document_id = f"{source}/{name}"
        try:
            page = _parsed(store, name)
        except DataError as problem:
            yield Lost(store.path(name), str(problem).removeprefix(f"{store.path(name)}: "), document_id)
            continue
        for selector in config.drop:
            for element in page.select(selector):
                element.decompose()
        title = " ".join(page.title.get_text().split()) if page.title else ""
        parts = []
        for block in html_blocks(page, title):
            if not isinstance(block, Picture):
                parts.append(Text(block))
                continue
            try:
                parts.append(referred(store, name, block))
            except DataError as problem:
                yield Lost(f"{store.path(name)}, line {block.line}: {block.short}", str(problem), document_id, whole=False)
        if not parts:
            yield Lost(store.path(name), "nothing in it", document_id)
            continue
        language = config.language or (page.html.get("lang", "").split("-")[0].lower() if page.html else "")
        meta = {"path": name, "title": title, "language": language, "license": config.license}
        yield Document(document_id, source, tuple(parts), {key: value for key, value in meta.items() if value})


def _mistaken_selectors(config: HtmlConfig) -> list[str]:
    soupsieve = need("soupsieve")
    mistakes = []
    for selector in config.drop:
        try:
            soupsieve.compile(selector)
        except (soupsieve.SelectorSyntaxError, NotImplementedError) as problem:
            mistakes.append(f"drop: {selector!r} is no CSS selector ({str(problem).splitlines()[0]})")
    return mistakes


def _parsed(store: Store, name: str):
    """The page as a tree of Beautiful Soup. Raises `DataError`."""
    if (size := store.size(name)) > MAX_BYTES:
        raise DataError(f"of {size} bytes, at most {MAX_BYTES} are read")
    text = _decoded(store.read(name))
    try:
        return need("bs4").BeautifulSoup(text, "html.parser")
    except need("bs4.exceptions").ParserRejectedMarkup as problem:
        raise DataError(f"no HTML ({str(problem).splitlines()[-1].strip()})") from None


def _decoded(data: bytes) -> str:
    """The text by its byte order mark, else by the encoding that the page declares, else UTF-8: nothing is guessed."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif data.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    else:
        encoding = need("bs4.dammit").EncodingDetector.find_declared_encoding(data, is_html=True) or "utf-8"
    try:
        python = codecs.lookup(encoding).name
        return data.decode(_WEB.get(python, python))
    except (LookupError, ValueError) as problem:
        raise DataError(f"no text in {encoding} ({problem})") from None
