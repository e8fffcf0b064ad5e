"""HTML as runs of text with the pictures between them, in the order of the document.

Breaks are much like those of `innerText` in the HTML standard (html.spec.whatwg.org, 3.2.7), with an empty line around each
block, and the marks of list items written out.
"""

import re
from collections.abc import Iterator

from mmpt.data.extra import need
from mmpt.data.sources.references import Picture

_PARAGRAPHS = {
    "address", "article", "aside", "blockquote", "body", "center", "details", "dialog", "div", "dl", "fieldset",
    "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr", "main", "menu",
    "nav", "ol", "p", "pre", "search", "section", "table", "ul",
}  # fmt: skip
_LINES = {"caption", "dd", "dt", "legend", "li", "option", "summary", "tr"}
_NEVER = {"title", "script", "style", "template", "noscript", "svg", "math", "iframe", "object"}
_LISTS = ("ol", "ul", "menu")
_SPACES = re.compile(r"[ \t\n\r\f]+")


def html_blocks(root, title: str = "") -> Iterator[str | Picture]:
    """Yield the text runs and pictures below a tag of Beautiful Soup, after the title.

    No run is empty, none follows another.
    """
    bs4 = need("bs4")
    run = _Run()
    run.add(title)
    run.block(2)
    lists: list[int | None] = []  # the next number of each open list, None: bullets
    rows: list[bool] = []  # of each open row of a table, whether it has a cell
    left: list[tuple[object, bool, bool]] = [(root, False, False)]  # (node, its end?, in pre?), the next one last
    while left:
        node, is_end, verbatim = left.pop()
        if not isinstance(node, bs4.Tag):
            if type(node) in (bs4.NavigableString, bs4.CData):  # its other kinds are comments, scripts and the like
                run.add_verbatim(_pre(node)) if verbatim else run.add(_SPACES.sub(" ", node))
        elif is_end:
            if node.name in _LISTS:
                lists.pop()
            elif node.name == "tr":
                rows.pop()
            elif node.name == "li":
                run.mark = ""
            run.block(_breaks(node.name, bool(lists)))
        elif node.name == "img":
            if text := run.take():
                yield text
            yield Picture(_target(node), " ".join(node.get("alt", "").split()), node.sourceline)
        elif node.name == "br":
            run.line()
        elif node.name not in _NEVER:
            verbatim = verbatim or node.name == "pre"
            left.append((node, True, False))
            left.extend((child, False, verbatim) for child in reversed(node.contents))
            run.block(_breaks(node.name, bool(lists)))
            if node.name in _LISTS:
                lists.append(_first_number(node))
            elif node.name == "tr":
                rows.append(False)
            elif node.name in ("td", "th") and rows:
                run.tabs += rows[-1]
                rows[-1] = True
            elif node.name == "li":
                number = lists[-1] if lists else None
                run.mark = "- " if number is None else f"{number}. "
                lists[-1:] = lists[-1:] if number is None else [number + 1]
    if text := run.take():
        yield text


class _Run:
    """Text that grows piece by piece. `mark` stands before the next piece, whatever blocks that lies in; `tabs` go before it
    where no break does."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._breaks = self.tabs = 0
        self.mark = ""

    def add(self, text: str) -> None:
        """Text whose runs of spaces are one space each: none at the beginning of a line, none after another."""
        at_space = self._breaks or self.tabs or self.mark or not self._pieces or self._pieces[-1][-1].isspace()
        if text := text.removeprefix(" ") if at_space else text:
            self.add_verbatim(text)

    def add_verbatim(self, text: str) -> None:
        if self._pieces and (self._breaks or self.tabs):
            self._trim()
            self._pieces.append("\n" * self._breaks or "\t" * self.tabs)
        if text:
            self._pieces.append(self.mark + text)
            self._breaks, self.tabs, self.mark = 0, 0, ""

    def line(self) -> None:
        """A line break; no more than one line stays empty."""
        self._breaks = min(2, self._breaks + 1)

    def block(self, breaks: int) -> None:
        """At least so many line breaks before what follows."""
        if not self.mark:
            self._breaks = max(self._breaks, breaks)

    def take(self) -> str:
        """The text so far, without empty lines at either end. What follows begins anew."""
        text = "".join(self._pieces).rstrip()
        self.__init__()
        return text.lstrip("\n")

    def _trim(self) -> None:
        last = ""
        while self._pieces and not last:
            last = self._pieces.pop().rstrip()
        if last:
            self._pieces.append(last)


def _breaks(name: str, in_list: bool) -> int:
    if name in _LISTS and in_list:
        return 1
    return 2 if name in _PARAGRAPHS else int(name in _LINES)


def _pre(node) -> str:
    """The text as it stands; the line break right after `<pre>` is no part of it."""
    text = node.replace("\r\n", "\n").replace("\r", "\n")
    return text.removeprefix("\n") if node.parent.name == "pre" and node.previous_sibling is None else text


def _first_number(node) -> int | None:
    start = node.get("start", "1")
    return None if node.name != "ol" else int(start) if re.fullmatch(r"-?\d{1,9}", start) else 1


def _target(node) -> str:
    """The address of a picture. A page that loads late has a stand-in in `src`, and the picture itself in `data-src`."""
    for name in ("data-src", "src"):
        if target := node.get(name, "").strip():
            return target
    candidates = (node.get("srcset") or node.get("data-srcset") or "").split()
    return candidates[0].rstrip(",") if candidates else ""
