"""HTML as the tree that a browser makes of it (html.spec.whatwg.org, 13.2), and where in the source a reference stands."""

import re
from bisect import bisect_left
from collections import defaultdict, deque
from functools import cached_property
from html import unescape
from urllib.parse import urljoin

from mmpt.data.extra import need
from mmpt.errors import DataError

_VALUE = re.compile(
    r"""=\s*("[^"]*"|'[^']*'|[^\s"'<>=`]+)|\]\(\s*(<[^>\n]*>|[^\s)]+)|(<svg)(?=[\s/>])|(\bsrc\s*=\s*(?:""|''))""",
    re.IGNORECASE,
)
_IMAGE = re.compile(r"<image(?=\s[^<>]*\bsrc\s*=)", re.IGNORECASE)


MAX_NESTING = 10_000
"""Deepest nesting of elements that is read: browsers stop at 512, and the time of any parser grows with the square of it."""
_TAG = re.compile(r"<(/?)([A-Za-z][\w-]*)")
_NO_END = {
    "area",
    "base",
    "br",
    "col",
    "dd",
    "dt",
    "embed",
    "hr",
    "image",
    "img",
    "input",
    "li",
    "link",
    "meta",
    "option",
    "p",
    "param",
}
_NO_END |= {"rect", "path", "source", "tbody", "td", "tfoot", "th", "thead", "tr", "track", "use", "wbr"}


class Page:
    """The tree of a page's `html`, its `root` a node of selectolax. `source` is what lines are counted in, where that is
    another text.

    An element's attribute `x-line` says where it stands in the source. Raises `DataError` where elements lie too deep in each
    other.
    """

    def __init__(self, html: str, source: str = "") -> None:
        if _depth(html) > MAX_NESTING:
            raise DataError(f"elements more than {MAX_NESTING} deep in each other")
        # Browsers take <image src> for <img>; the parser loses it between the rows of a table.
        self._parser = need("selectolax.lexbor").LexborHTMLParser(_IMAGE.sub("<img", html))
        self._source = source or html
        self.root = self._parser.root

    def first(self, selector: str):
        """The first element that matches a CSS selector, or None."""
        return self._parser.css_first(selector)

    def marked(self, selectors: tuple[str, ...]) -> dict[int, str]:
        """`mem_id` of each element that matches one of the CSS selectors → that selector."""
        return {node.mem_id: selector for selector in reversed(selectors) for node in self._parser.css(selector)}

    @cached_property
    def _base(self) -> str:
        base = self.first("base[href]")
        return (base.attributes["href"] or "").strip() if base else ""

    def based(self, target: str) -> str:
        """A reference relative to the page, where it was relative to `<base href>`."""
        target = re.sub(r"[\t\n\r]", "", target.strip())
        try:
            return urljoin(self._base, target) if self._base and target else target
        except ValueError:
            return target

    def line(self, node, value: str) -> int:
        """Where `value`, an attribute of the node, is written: from 1, and 0 where it cannot be found."""
        if written := node.attributes.get("x-line"):
            return int(written) if written.isdecimal() and len(written) < 9 else 0
        places = self._places.get(value.strip())
        if not places:
            return 0
        # The same value comes again for the next element that has it.
        offset = places.popleft() if len(places) > 1 else places[0]
        return 1 + bisect_left(self._ends, offset)

    @cached_property
    def _places(self) -> dict[str, deque[int]]:
        found = defaultdict(deque)
        for match in _VALUE.finditer(self._source):
            group = match.lastindex or 0  # 1: an attribute, 2: Markdown's address, 3: <svg, 4: an empty src
            value = ("<svg", "")[group - 3] if group > 2 else unescape(match[group].strip("\"'<>"))
            found[value.strip()].append(match.start())
        return found

    @cached_property
    def _ends(self) -> list[int]:
        return [match.start() for match in re.finditer("\n", self._source)]


def _depth(html: str) -> int:
    """About how deep the elements lie in each other, where there are so many that it matters."""
    if html.count("<") - html.count("</") <= MAX_NESTING:
        return 0
    depth = deepest = 0
    for tag in _TAG.finditer(html):
        if tag[2].lower() not in _NO_END:
            depth = max(0, depth + (-1 if tag[1] else 1))
            deepest = max(deepest, depth)
    return deepest


def mistake_in(selector: str) -> str:
    """What is wrong with a CSS selector, "" where nothing is."""
    lexbor = need("selectolax.lexbor")
    try:
        lexbor.LexborHTMLParser("").css(selector)
    except lexbor.SelectolaxError as problem:
        return str(problem)
    return ""
