"""Documents from a tree of HTML files, each with its pictures in place.

sources: [{kind: html, folder: pages/, drop: [nav, footer, aside, .cookies]}]

A page is the tree that a browser makes of it. Its pictures are those of its elements; what style sheets and scripts add is not
seen.
"""

from pathlib import PurePosixPath
from typing import ClassVar

from mmpt.data.formats.html_blocks import html_blocks
from mmpt.data.formats.html_text import decoded
from mmpt.data.formats.html_tree import Page, mistake_in
from mmpt.data.formats.references import page_parts
from mmpt.data.lost import Documents, Lost, kept
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store
from mmpt.data.unit import Unit, grouped
from mmpt.document import Document
from mmpt.errors import ConfigError, DataError

SUFFIXES = (".html", ".htm", ".xhtml")
MAX_BYTES = 32 << 20


class Html(NamedSource):
    """Every .html file below a folder, parsed as browsers do: the HTML standard (html.spec.whatwg.org, 13.2)."""

    carries: ClassVar[tuple[str, ...]] = ("MMSci (PhD-level scientific multimodal data)",)

    folder: str
    """Folder or URL of the pages and their pictures."""
    public: tuple[str, ...] = ()
    """Folders in it whose files a site generator puts at the root of the site, so that "/a.png" may lie there: `public` or
    `docs/public` (VitePress, Astro), `static` (Hugo, Docusaurus)."""
    drop: tuple[str, ...] = (
        "nav",
        "footer",
        "[hidden]",
        "[aria-hidden=true]",
        "[style*='display:none' i]",
        "[style*='display: none' i]",
    )
    """CSS selectors: elements that match one go with all that is in them; the pictures among that are listed."""
    language: str = ""
    """Code of the language of the documents, for their meta; empty: the page's own (`<html lang>`)."""
    license: str = ""
    """License of the documents, for their meta."""

    def units(self) -> list[Unit[list[str]]]:
        """Runs of files. Raises `ConfigError` where there is no folder, no such file in it, or a selector that is none."""
        mistakes = _mistaken_selectors(self)
        files, found = {}, {}
        try:
            files = Store(self.folder).files()
            found = {name: size for name, size in files.items() if PurePosixPath(name).suffix.lower() in SUFFIXES}
            if not found:
                mistakes.append(f"{self.folder}: no .html file in it")
        except DataError as problem:
            mistakes.append(str(problem))
        if mistakes:
            raise ConfigError("\n".join(mistakes))
        pictures = sum(size for name, size in files.items() if name not in found)
        return grouped(((name, size + pictures // len(found)) for name, size in found.items()), max_bytes=1 << 20)

    def read(self, unit: Unit[list[str]]) -> Documents:
        """One document for each file: its title, then text and pictures in the order of the page.

        A picture that is missing, damaged or elsewhere is listed, and the rest stays in order.
        """
        store, source = Store(self.folder), self.source_name(self.folder)
        for name in unit.what:
            document_id = f"{source}/{name}"
            try:
                page = _parsed(store, name)
            except DataError as problem:
                yield Lost(store.path(name), str(problem).removeprefix(f"{store.path(name)}: "), document_id)
                continue
            heading = page.first("head > title")
            title = " ".join(heading.text().split()) if heading else ""
            parts = yield from kept(page_parts(store, name, document_id, html_blocks(page, title, self.drop), self.public))
            if not parts:
                yield Lost(store.path(name), "nothing in it", document_id)
                continue
            language = self.language or (page.root.attributes.get("lang") or "").split("-")[0].lower()
            meta = {"path": name, "title": title, "language": language, "license": self.license}
            yield Document(document_id, source, tuple(parts), {key: value for key, value in meta.items() if value})


def _mistaken_selectors(config: Html) -> list[str]:
    found = [(selector, mistake_in(selector)) for selector in config.drop]
    return [f"drop: {selector!r} is no CSS selector ({mistake})" for selector, mistake in found if mistake]


def _parsed(store: Store, name: str) -> Page:
    """Raises `DataError`."""
    if (size := store.size(name)) > MAX_BYTES:
        raise DataError(f"of {size} bytes, at most {MAX_BYTES} are read")
    return Page(decoded(store.read(name)))
