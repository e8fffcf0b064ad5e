"""Documents from a tree of Markdown files, each with its pictures in place.

sources: [{kind: markdown, folder: my/tutorials, language: en}]
"""

import html
import re
from pathlib import PurePosixPath

import pydantic

from mmpt.config import Expression
from mmpt.data.formats.front_matter import front_matter
from mmpt.data.formats.html_blocks import html_blocks
from mmpt.data.formats.html_tree import Page
from mmpt.data.formats.markdown_html import markdown_html, parser
from mmpt.data.formats.references import page_parts
from mmpt.data.lost import Documents, Lost, kept
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store, files_of
from mmpt.data.unit import Unit, grouped
from mmpt.document import Document
from mmpt.errors import ConfigError, DataError

SUFFIXES = (".md", ".markdown")
MAX_BYTES = 32 << 20


class Markdown(NamedSource):
    """Every Markdown file below a folder, in the order of names and numbers: CommonMark and GitHub's extensions
    (spec.commonmark.org, github.github.com/gfm).

    The text between pictures stays Markdown. HTML in it is read as a browser does, so that its tags vanish, as do kramdown's
    attribute lists. A title in the front matter is the first heading of a page without one.
    """

    folder: str
    """Folder or URL of the pages and their pictures."""
    public: tuple[str, ...] = ()
    """Folders in it whose files a site generator puts at the root of the site, so that "/a.png" may lie there: `public` or
    `docs/public` (VitePress, Astro), `static` (Hugo, Docusaurus)."""
    files: Expression = r".*\.(md|markdown)"
    """Regular expression of the paths that are read."""
    drop_lines: tuple[Expression, ...] = ()
    """Regular expressions: a line outside of code that matches one as a whole is left out."""
    language: str = ""
    """Code of the language of the documents, for their meta."""
    language_from: Expression = ""
    """Regular expression with a group "language" that finds the language in a page's path."""
    license: str = ""
    """License of the documents, for their meta."""

    @pydantic.field_validator("language_from")
    @classmethod
    def _finds_a_language(cls, value: str) -> str:
        if value and "language" not in re.compile(value).groupindex:
            raise ValueError("expected a group (?P<language>…) in it")
        return value

    def units(self) -> list[Unit[list[str]]]:
        """Runs of files, one where they are long. Raises `ConfigError` where there is no folder, or no such file in it."""
        files = files_of(self.folder)
        found = sorted((name for name in files if re.fullmatch(self.files, name, re.DOTALL)), key=_natural)
        if not found:
            raise ConfigError(f"{self.folder}: no file matches {self.files!r}")
        # What the pictures weigh is known only once the text is read: on average, each file's share of all others.
        pictures = sum(size for name, size in files.items() if PurePosixPath(name).suffix.lower() not in SUFFIXES)
        return grouped(((name, files[name] + pictures // len(found)) for name in found), max_bytes=1 << 20)

    def read(self, unit: Unit[list[str]]) -> Documents:
        """One document for each file. A picture that is missing, damaged or elsewhere is listed, and the rest stays in order."""
        store = Store(self.folder)
        for name in unit.what:
            document_id = f"{self.source_name(self.folder)}/{name}"
            try:
                if store.size(name) > MAX_BYTES:
                    raise DataError(f"{store.path(name)}: of {store.size(name)} bytes, at most {MAX_BYTES} are read")
                text = store.read(name).decode("utf-8-sig")
            except (DataError, UnicodeDecodeError) as problem:
                yield Lost(store.path(name), str(problem), document_id)
                continue
            try:
                title, page = _page(text, self.drop_lines)
            except (DataError, RecursionError) as problem:
                yield Lost(store.path(name), str(problem), document_id)
                continue
            parts = yield from kept(page_parts(store, name, document_id, html_blocks(page), self.public))
            if not parts:
                yield Lost(store.path(name), "nothing in it", document_id)
                continue
            meta = {"path": name, "title": title, "language": _language(self, name), "license": self.license}
            source = self.source_name(self.folder)
            yield Document(document_id, source, tuple(parts), {key: value for key, value in meta.items() if value})


def _page(text: str, drop_lines: tuple[str, ...]) -> tuple[str, Page]:
    """The title of a file's front matter and the tree of what it says."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\N{REPLACEMENT CHARACTER}")  # as CommonMark has it
    title, text = front_matter(text)
    if drop_lines:
        drop = [re.compile(line) for line in drop_lines]
        code = {
            n for token in parser().parse(text) if token.type in ("fence", "code_block") for n in range(*(token.map or (0, 0)))
        }
        lines = text.split("\n")
        text = "\n".join("" if n not in code and _matches(line, drop) else line for n, line in enumerate(lines))
    page = markdown_html(text)
    named = title and "<h1" not in page.lower()
    return title, Page((f'<h1 x-mark="# ">{html.escape(title)}</h1>' if named else "") + page, text)


def _matches(line: str, expressions: list[re.Pattern]) -> bool:
    return any(expression.fullmatch(line.strip()) for expression in expressions)


def _language(config: Markdown, name: str) -> str:
    found = re.search(config.language_from, name) if config.language_from else None
    return found["language"] if found else config.language


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Sort key by which step_10 comes after step_9."""
    return [(not piece.isdigit(), int(piece) if piece.isdigit() else 0, piece) for piece in re.split(r"(\d+)", name)]
