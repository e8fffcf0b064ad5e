"""Markdown as runs of text with the pictures between them, in the order in which a reader meets them.

The structure is markdown-it's (CommonMark 0.31); the text keeps its Markdown form.
"""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline import image as image_rule
from markdown_it.token import Token


@dataclass(frozen=True)
class Picture:
    """A reference to a picture: `target` as written, its alternative text, and the `line` of its block, from 1."""

    target: str
    alt: str
    line: int


_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_FRONT_MATTER = re.compile(r"\A---\n.*?\n(---|\.\.\.)\n", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_TAG = re.compile(
    r"</?(?:div|span|p|section|article|header|footer|main|aside|figure|figcaption|center|details|summary|iframe|video|audio|source"
    r"|kbd|br|hr|a|b|i|u|em|strong|small|sub|sup|font|table|thead|tbody|tr|td|th|picture)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_IMG = re.compile(r"<img\s[^<>]*>", re.IGNORECASE)
_ATTRIBUTES = re.compile(r"(?<=[)\]`*_])\{:[^}\n]*\}|^[ \t]*\{:[^}\n]*\}[ \t]*$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")


def markdown_blocks(text: str, drop_lines: tuple[str, ...] = ()) -> Iterator[str | Picture]:
    """Yield the text runs and pictures of a Markdown file; no run is empty, none follows another."""
    lines = _without_html(text.replace("\r\n", "\n").replace("\r", "\n"), [re.compile(line) for line in drop_lines])
    parser = MarkdownIt("commonmark", {"html": False})
    parser.inline.ruler.at("image", _image)
    run = ""
    for piece in _pieces(parser.parse("\n".join(lines)), lines):
        if isinstance(piece, Picture):
            if text := _clean(run):
                yield text
            run = ""
            yield piece
        else:
            run += piece
    if text := _clean(run):
        yield text


def _clean(run: str) -> str:
    """The run with single blank lines, and without what a picture in a link leaves over."""
    run = re.sub(r"\A\]\([^)\s]*\)|\[\Z", "", run.rstrip(" "))
    return _BLANK_LINES.sub("\n\n", "\n".join(line.rstrip() for line in run.split("\n"))).strip("\n").strip()


def _without_html(text: str, drop: list[re.Pattern]) -> list[str]:
    """The lines, as many as before, without front matter, dropped lines, HTML tags and attribute lists; code stays as it is."""
    matter = _FRONT_MATTER.match(text)
    if matter:
        text = "\n" * matter[0].count("\n") + text[matter.end() :]
    code, fence, found = [], "", []
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if fence:
            found.append(f"\0{len(code)}\0")
            code.append(line)
            if mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif mark:
            found.append(f"\0{len(code)}\0")
            code.append(line)
            fence = mark[1]
        else:
            found.append("" if any(expression.fullmatch(line.strip()) for expression in drop) else line)
    plain = "\n".join(found)
    plain = _COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), plain)
    plain = _ATTRIBUTES.sub("", plain)
    plain = _TAG.sub(lambda tag: "\n" * tag[0].count("\n"), _IMG.sub(_image_tag, plain))
    return re.sub(r"\0(\d+)\0", lambda place: code[int(place[1])], plain).split("\n")


class _Attributes(HTMLParser):
    def __init__(self, tag: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self.feed(tag)

    def handle_starttag(self, _: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found = {name: value or "" for name, value in attributes}

    handle_startendtag = handle_starttag


def _image_tag(tag: re.Match) -> str:
    """`<img src alt>` in Markdown, on as many lines."""
    found = _Attributes(tag[0]).found
    target, alt = found.get("src", ""), re.sub(r"[\[\]\n]", " ", html.unescape(found.get("alt", "")))
    return (f"![{alt}](<{target}>)" if target and not re.search(r"[<>\n]", target) else "") + "\n" * tag[0].count("\n")


def _image(state: StateInline, silent: bool) -> bool:
    """markdown-it's rule, which also notes where in the block's source the picture stands."""
    start = state.pos
    if not image_rule(state, silent):
        return False
    if not silent:
        state.tokens[-1].meta["span"] = (start, state.pos)
    return True


def _pieces(tokens: list[Token], lines: list[str]) -> Iterator[str | Picture]:
    lists: list[int | None] = []  # the next number of each open list, None: bullets
    quotes, heading, mark, tight = 0, "", "", False
    for token in tokens:
        if token.type in ("bullet_list_open", "ordered_list_open"):
            lists.append(None if token.type[0] == "b" else int(token.attrs.get("start", 1)))
        elif token.type in ("bullet_list_close", "ordered_list_close"):
            lists.pop()
            yield "\n\n" if not lists else ""
        elif token.type == "list_item_open":
            mark = "- " if lists[-1] is None else f"{lists[-1]}. "
            lists[-1] = None if lists[-1] is None else lists[-1] + 1
        elif token.type == "blockquote_open":
            quotes += 1
        elif token.type == "blockquote_close":
            quotes -= 1
        elif token.type == "heading_open":
            heading = "#" * int(token.tag[1]) + " "
        elif token.type == "paragraph_open":
            tight = token.hidden
        elif token.type == "hr":
            yield "---\n\n"
        elif token.type in ("fence", "code_block"):
            yield "\n".join(lines[token.map[0] : token.map[1]]) + "\n\n"
        elif token.type == "inline":
            indent = "> " * quotes + "  " * max(0, len(lists) - 1)
            yield indent + (mark or ("  " if lists else "")) + heading
            yield from _inline(token, "\n" + indent + ("  " if lists else ""))
            yield "\n" if tight else "\n\n"
            heading, mark = "", ""


def _inline(token: Token, newline: str) -> Iterator[str | Picture]:
    """The source of a block's text, cut at its pictures."""
    at = 0
    for picture in (child for child in token.children or [] if child.type == "image"):
        start, end = picture.meta["span"]
        yield token.content[at:start].replace("\n", newline)
        alt = "".join(child.content for child in picture.children or [])
        yield Picture(str(picture.attrs.get("src", "")), alt, token.map[0] + 1)
        at = end
    yield token.content[at:].replace("\n", newline)
