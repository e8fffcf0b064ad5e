"""Markdown as runs of text with the pictures between them, in the order in which a reader meets them.

The structure is markdown-it's (CommonMark 0.31); the text keeps its Markdown form.
"""

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline import image as image_rule
from markdown_it.token import Token

from mmpt.data.sources.references import Picture

_FRONT_MATTER = re.compile(r"\A---\n.*?\n(---|\.\.\.)\n", re.DOTALL)
_CODE_SPAN = re.compile(r"(?<![`\\])(`+)(?!`)(?:(?!\n[ \t]*\n).)+?(?<!`)\1(?!`)", re.DOTALL)
_TAG = re.compile(
    r"</?(?:div|span|p|section|article|header|footer|main|aside|figure|figcaption|center|details|summary|iframe|video|audio|source"
    r"|kbd|br|hr|a|b|i|u|em|strong|small|sub|sup|font|table|thead|tbody|tr|td|th|picture)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_IMG = re.compile(r"<img\s[^<>]*>", re.IGNORECASE)
_ATTRIBUTES = re.compile(r"(?<=[)\]\0*_])\{:[^}\n]*\}|^[ \t]*\{:[^}\n]*\}[ \t]*$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")


def markdown_blocks(text: str, drop_lines: tuple[str, ...] = ()) -> Iterator[str | Picture]:
    """Yield the text runs and pictures of a Markdown file; no run is empty, none follows another."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\N{REPLACEMENT CHARACTER}")  # as CommonMark has it
    lines = _without_html(text, [re.compile(line) for line in drop_lines])
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
    lines, code = text.split("\n"), []

    def hidden(source: str) -> str:
        code.append(source)
        return f"\0{len(code) - 1}\0"

    blocks = [
        token.map for token in MarkdownIt("commonmark", {"html": False}).parse(text) if token.type in ("fence", "code_block")
    ]
    inside = {number for first, last in blocks for number in range(first, last)}
    for number, line in enumerate(lines):
        if number in inside:
            lines[number] = hidden(line)
        elif any(expression.fullmatch(line.strip()) for expression in drop):
            lines[number] = ""
    plain = _CODE_SPAN.sub(lambda span: hidden(span[0]), "\n".join(lines))
    plain = _ATTRIBUTES.sub("", _without_comments(plain))
    plain = _TAG.sub(lambda tag: "\n" * tag[0].count("\n"), _IMG.sub(_image_tag, plain))
    for _ in range(2):  # a code span may reach over lines that are hidden themselves
        plain = re.sub(r"\0(\d+)\0", lambda place: code[int(place[1])], plain)
    return plain.split("\n")


def _without_comments(text: str) -> str:
    """The text, on as many lines, without HTML comments. By hand, since an expression takes the square of many that never end."""
    found, at = [], 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start)) >= 0:
        found += [text[at:start], "\n" * text.count("\n", start, end)]
        at = end + len("-->")
    return "".join([*found, text[at:]])


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
        elif token.type == "list_item_close":
            mark = ""
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
            mark = ""  # the source of its first line has it
        elif token.type == "inline":
            indent = "> " * quotes + "  " * max(0, len(lists) - 1)
            start = indent + (mark or ("  " if lists else "")) + heading
            yield from _inline(token, start, "\n" + indent + ("  " if lists else ""))
            yield "\n" if tight else "\n\n"
            heading, mark = "", ""


def _inline(token: Token, start: str, newline: str) -> Iterator[str | Picture]:
    """The source of a block's text, cut at its pictures. `start`, such as the mark of a list item, goes before its first text."""
    at = 0
    for picture in [*(child for child in token.children or [] if child.type == "image"), None]:
        first, last = picture.meta["span"] if picture else (len(token.content), 0)
        text = token.content[at:first]
        if text.strip(" \n[]"):  # more than the brackets of a link around a picture
            yield start + (text.lstrip() if start else text).replace("\n", newline)
            start = ""
        else:
            yield text
        if picture:
            alt = "".join(child.content for child in picture.children or [])
            yield Picture(str(picture.attrs.get("src", "")), alt, token.map[0] + 1)
        at = last
