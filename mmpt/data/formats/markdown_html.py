"""Markdown as HTML whose text is still Markdown: the tree tells where everything stands, the text keeps its marks.

The structure is markdown-it's (CommonMark 0.31 and GFM's tables, with the rules of `markdown_rules`). Marks inside a block are
written into the text, those of its lines are attributes (`x-mark`, `x-prefix`) for `html_blocks`. HTML goes through as it is.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from html import escape
from textwrap import dedent

from markdown_it import MarkdownIt
from markdown_it.token import Token

from mmpt.data.formats.markdown_rules import BODY, add_rules, plain_jsx
from mmpt.errors import DataError

MAX_NESTING = 80
"""Deepest nesting of blocks that is read."""
_IMPORT = re.compile(r"""^import[ \t]+(\w+)[ \t]+from[ \t]+["']([^"'\n]+)["']""", re.MULTILINE)
_TAG = re.compile(r"<(/?)([A-Za-z][\w.:-]*)([^>]*?)(/?)>\Z", re.DOTALL)
_SWALLOW = {
    "iframe", "math", "noembed", "noframes", "noscript", "object", "plaintext", "script", "select", "style", "svg", "template",
    "textarea", "title", "xmp",
}  # fmt: skip
_LEFT_OPEN = {
    "area", "article", "aside", "base", "blockquote", "body", "br", "caption", "center", "col", "colgroup", "dd", "details",
    "div", "dt", "embed", "figcaption", "figure", "footer", "head", "header", "hr", "html", "image", "img", "input", "li", "link",
    "main", "meta", "nav", "optgroup", "option", "p", "param", "rp", "rt", "section", "source", "summary", "tbody", "td", "tfoot",
    "th", "thead", "tr", "track", "wbr",
}  # fmt: skip
"""Elements that need no end, or whose end often stands in another block."""
_CLOSED = re.compile(r"</([a-z][\w.-]*)")
_VALUED = re.compile(r"""\w\s*=\s*["'{\w#./]""")


@lru_cache(maxsize=2)
def parser(html: bool = True) -> MarkdownIt:
    """markdown-it that keeps addresses, escapes and entities as they are written."""
    md = MarkdownIt("commonmark", {"html": html, "maxNesting": MAX_NESTING}).enable("table").disable("text_join")
    add_rules(md)
    md.normalizeLink = lambda url: url
    md.normalizeLinkText = lambda link: link
    md.validateLink = lambda url: True
    return md


def markdown_html(text: str) -> str:
    """The HTML of Markdown. Raises `DataError` where blocks lie too deep in each other."""
    env: dict = {}
    tokens = parser().parse(text, env)
    return "".join(_blocks(tokens, _Page(env, dict(_IMPORT.findall(text)), frozenset(_CLOSED.findall(text.lower())))))


@dataclass(frozen=True)
class _Page:
    """What all blocks of a page share: the parser's `env` with its link definitions, imported names, and of which
    elements an end stands in it. Lines are counted from `first`."""

    env: dict
    imports: dict[str, str]
    closed: frozenset[str]
    first: int = 1


def _blocks(tokens: list[Token], page: _Page) -> list[str]:
    if any(token.nesting == 1 and token.level >= MAX_NESTING - 1 for token in tokens):
        raise DataError(f"blocks {MAX_NESTING} deep in each other")
    found: list[str] = []
    columns: list[str] | None = None  # of the open table
    for token in tokens:
        kind = token.type
        if kind == "inline":
            found += _inline(token, page, columns is not None)
        elif kind in ("fence", "code_block"):
            found.append(f"<pre>{escape(_code(token))}</pre>")
        elif kind == "html_block":
            found += _html(token, page)
        elif kind == "hr":
            found.append("<p>---</p>")
        elif kind == "table_open":
            found.append("<p>")
            columns = []
        elif kind == "table_close":
            found.append("</p>")
            columns = None
        elif columns is not None:  # the lines of a table are those of a paragraph
            if kind == "th_open":
                columns.append(_RULES.get(str(token.attrs.get("style", "")), "---"))
            found.append(_ROWS.get(kind, "") if kind != "thead_close" else f"<br>| {' | '.join(columns)} |")
        elif token.nesting < 0:
            found.append("" if token.hidden else f"</{token.tag}>")
        else:
            found.append("" if token.hidden else f"<{token.tag}{_marks(token)}>")
    return found


_ROWS = {"tr_open": "<br>", "th_open": "| ", "td_open": "| ", "th_close": " ", "td_close": " ", "tr_close": "|"}
_RULES = {"text-align:left": ":---", "text-align:center": ":---:", "text-align:right": "---:"}


def _marks(token: Token) -> str:
    if token.type == "heading_open":
        return f' x-mark="{"#" * int(token.tag[1])} "'
    if token.type == "ordered_list_open":
        return f' start="{token.attrs.get("start", 1)}"'
    return {"blockquote_open": ' x-prefix="&gt; "', "body_open": f' x-prefix="{BODY}"'}.get(token.type, "")


def _code(token: Token) -> str:
    content = token.content if token.content.endswith("\n") or not token.content else token.content + "\n"
    if token.type == "fence":
        return f"{token.markup}{token.info}\n{content}{token.markup}"
    return "".join(f"    {line}" if line.strip() else line for line in content.splitlines(keepends=True)).rstrip()


def _inline(token: Token, page: _Page, in_table: bool = False) -> Iterator[str]:
    """The HTML of a block's text. A line break within is `<br>`, which gives the line back."""
    children = token.children or []
    literal = _literal_tags(children)
    line = token.map[0] + page.first if token.map else page.first
    links: list[str] = []  # what closes each open link
    for number, child in enumerate(children):
        kind = child.type
        if kind == "text":
            yield escape(child.content)
        elif kind == "text_special":
            yield escape(child.markup)
        elif kind == "code_inline":
            pad = " " if child.content[:1] == "`" or child.content[-1:] == "`" else ""
            yield f"<x-verbatim>{escape(child.markup + pad + child.content + pad + child.markup)}</x-verbatim>"
        elif kind in ("softbreak", "hardbreak"):
            line += 1
            yield "<br>"
        elif kind in ("image", "picture"):
            alt = _alternative(child)
            anywhere = ' x-anywhere="1"' if child.attrs.get("anywhere") else ""
            yield f'<img src="{escape(str(child.attrs.get("src", "")))}" alt="{escape(str(alt))}" x-line="{line}"{anywhere}>'
        elif kind == "html_inline":
            raw = number in literal or (in_table and child.content[:3].lower() == "<br")
            yield escape(child.content) if raw else plain_jsx(child.content, page.imports)
            line += child.content.count("\n")
        elif kind == "link_open":
            before, after = _link(child, children[number + 1 :])
            links.append(after)
            yield escape(before)
        elif kind == "link_close":
            yield escape(links.pop())
        else:  # emphasis
            yield escape(child.markup)


def _link(token: Token, following: list[Token]) -> tuple[str, str]:
    """What stands before and after the text of a link: nothing where there is no text, but a picture."""
    if token.markup == "autolink":
        return "<", ">"
    depth = 0
    for child in following:
        depth += child.nesting if child.type in ("link_open", "link_close") else 0
        if depth < 0:
            return "", ""
        if child.type == "code_inline" or child.type in ("text", "text_special") and child.content.strip():
            break
    address, title = str(token.attrs.get("href", "")), str(token.attrs.get("title", ""))
    address = f"<{address}>" if re.search(r"[\s()]", address) else address
    return "[", f"]({address}" + (f' "{title}")' if title else ")")


def _alternative(token: Token) -> str:
    """The text in the brackets of a picture, and behind it what an attribute says, where it says something else."""
    said = str(token.attrs.get("alt") or "".join(_words(token.children or [])))
    return " ".join(dict.fromkeys(one for one in (said, token.meta.get("alt", "")) if one))


def _words(children: list[Token]) -> Iterator[str]:
    """The text of a picture's alternative."""
    for child in children:
        if child.type in ("image", "picture"):
            yield _alternative(child)
        elif child.type in ("softbreak", "hardbreak"):
            yield " "
        elif child.type != "html_inline":
            yield child.content


def _literal_tags(children: list[Token]) -> set[int]:
    """Which tags of a block's text are no HTML but what somebody wrote: `List<a>`, `x<a and y>b`, "the <table> tag".

    Those are tags without a value in them that nothing in the block closes, of elements that must be closed.
    """
    found: set[int] = set()
    opened: dict[str, list[int]] = {}
    for number, child in enumerate(children):
        tag = _TAG.match(child.content) if child.type == "html_inline" else None
        if not tag:
            continue
        name = tag[2].lower()
        if tag[1]:
            if opened.get(name):
                found.discard(opened[name].pop())
        elif not tag[4] and (name not in _LEFT_OPEN):
            opened.setdefault(name, []).append(number)
            # Taken for text until its end is found; one with an attribute was surely meant as a tag.
            if name in _SWALLOW or not _VALUED.search(tag[3]):
                found.add(number)
    return found


def _html(token: Token, page: _Page) -> Iterator[str]:
    """A block of HTML. The text between its tags is Markdown too, as many dialects have it, and CommonMark not."""
    html = plain_jsx(token.content, page.imports)
    lone = _LONE.fullmatch(html)
    if lone and lone[1].lower() not in _LEFT_OPEN and lone[1].lower() not in page.closed:
        yield _text(html, page)  # a placeholder such as <name>
        return
    first, at = (token.map or [0])[0] + page.first, 0
    for start, end in _tags(html):
        yield _text(html[at:start], replace(page, first=first + html.count("\n", 0, at)))
        # What would swallow all that follows, and never ends, is text.
        swallows = _SWALLOWS.match(html, start)
        yield "&lt;" if swallows and swallows[1].lower() not in page.closed else html[start]
        yield html[start + 1 : end]
        at = end
    yield _text(html[at:], replace(page, first=first + html.count("\n", 0, at)))


def _tags(html: str) -> Iterator[tuple[int, int]]:
    """Where tags and comments stand in HTML; an element whose text is no Markdown is one with all that is in it."""
    lower, at = html.lower(), 0
    last = {name: lower.rfind(f"</{name}") for name in _VERBATIM}
    while found := _TAG_START.search(html, at):
        start, name = found.start(), (found[1] or "").lower()
        if found[0] == "<!--" and (not start or html.find("-->", start) >= 0):
            end = html.find("-->", start)
            at = end + 3 if end >= 0 else len(html)
        elif last.get(name, -1) > start:
            end = html.find(">", lower.index(f"</{name}", start))
            at = end + 1 if end >= 0 else len(html)
        elif html.find(">", start) >= 0 and (whole := _WHOLE_TAG.match(html, start)):
            at = whole.end()
            if html[start - 2 : start] == "](" and html[at : at + 1] == ")":
                continue  # an address in angle brackets
        else:
            at = start + 1
            continue
        yield start, at


def _text(text: str, page: _Page) -> str:
    if not text.strip():
        return text
    if "\n" not in text.strip(" \t"):
        return "".join(html for token in parser(False).parseInline(text, page.env) for html in _inline(token, page))
    first, *others = text.split("\n")
    return "".join(_blocks(parser(False).parse(first.lstrip() + "\n" + dedent("\n".join(others)), page.env), page))


_LONE = re.compile(r"[ \t]*<([A-Za-z][\w.-]*)>[ \t]*(?:\n[^<]*)?")
_SWALLOWS = re.compile(rf"<({'|'.join(sorted(_SWALLOW - {'table', 'head', 'body', 'html'}))})(?=[\s/>])", re.IGNORECASE)
_VERBATIM = ("pre", "code", "script", "style", "textarea", "svg", "math", "title", "template", "xmp")
_TAG_START = re.compile(r"<!--|<![A-Z\[]|<\?|</?([A-Za-z][\w-]*)")
_WHOLE_TAG = re.compile(r"""<(?:=\s*"[^"]*"|=\s*'[^']*'|[^>])*+>""")
