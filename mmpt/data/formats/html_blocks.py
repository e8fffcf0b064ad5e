"""An HTML tree as runs of text with the pictures between them, in the order of the document.

Breaks are much like those of `innerText` in the HTML standard (html.spec.whatwg.org, 3.2.7), with an empty line around each
block, the marks of list items written out, and what lies in an item as far in as its text.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from mmpt.data.formats import html_pictures
from mmpt.data.formats.html_run import Run
from mmpt.data.formats.html_tree import Page
from mmpt.data.formats.references import Picture

_PARAGRAPHS = {
    "address", "article", "aside", "blockquote", "body", "center", "details", "dialog", "div", "dl", "fieldset",
    "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr", "main", "menu",
    "nav", "ol", "p", "pre", "search", "section", "table", "ul",
}  # fmt: skip
_LINES = {"caption", "dd", "dt", "legend", "li", "option", "summary", "tr"}
_NEVER = {"head", "script", "style", "template", "iframe", "noembed", "noframes"}
_LISTS = ("ol", "ul", "menu")
_VERBATIM = ("pre", "listing", "xmp", "plaintext", "textarea", "x-verbatim")
_SPACES = re.compile(r"[ \t\n\r\f]+")


def html_blocks(page: Page, title: str = "", drop: tuple[str, ...] = ()) -> Iterator[str | Picture]:
    """Yield the text runs and pictures of a page, after the title. No run is empty, none follows another.

    Elements that match a CSS selector of `drop` go with all that is in them; their pictures come with the reason. An
    element's attributes `x-mark` and `x-prefix`, where a renderer set them, stand before its first and before each line.
    """
    run = Run()
    run.add(title)
    run.block(2)
    lists: list[int | None] = []  # the next number of each open list, None: bullets
    rows: list[bool] = []  # of each open row of a table, whether it has a cell
    for event in _paired(_events(page, page.marked(drop))):
        if isinstance(event, _Words):
            run.add_verbatim(event.text) if event.verbatim else run.add(_SPACES.sub(" ", event.text))
            continue
        if isinstance(event, _Shown):
            # A run of text ends where a picture stands; its lists and quotations stay open.
            if text := run.take():
                yield text
            yield event.found.picture()
            continue
        if isinstance(event, _Gone):
            yield event.picture
            continue
        node = event.node
        if isinstance(event, _End):
            if node.tag in _LISTS:
                lists.pop()
            elif node.tag == "tr":
                rows.pop()
            if node.tag == "li" or _marks(node):
                run.pop()
            run.block(_breaks(node.tag, bool(lists)))
        elif node.tag == "br":
            run.line()
        else:
            run.block(_breaks(node.tag, bool(lists)))
            if node.tag in _LISTS:
                lists.append(_first_number(node))
            elif node.tag == "tr":
                rows.append(False)
            elif node.tag in ("td", "th") and rows:
                run.tabs += rows[-1]  # between two cells, not before the first
                rows[-1] = True
            if node.tag == "li":
                number = lists[-1] if lists else None
                lists[-1:] = lists[-1:] if number is None else [number + 1]
                mark = "- " if number is None else f"{number}. "
                run.push(mark, " " * len(mark))  # later lines of an item are as far in as its text
            elif marks := _marks(node):
                run.push(*marks)
    if text := run.take():
        yield text


class _Start(NamedTuple):
    """An element begins."""

    node: Any


class _End(NamedTuple):
    """An element ends."""

    node: Any


class _Words(NamedTuple):
    """Characters, `verbatim` where their spaces count."""

    text: str
    verbatim: bool


class _Shown(NamedTuple):
    """An element that shows a picture; `plain`: only to browsers without scripts."""

    found: html_pictures.Found
    plain: bool


class _Gone(NamedTuple):
    """A picture that is not in the text's order, or was left out."""

    picture: Picture


Event = _Start | _End | _Words | _Shown | _Gone


def _events(page: Page, dropped: dict[int, str]) -> Iterator[Event]:
    """What lies in a tree, in order. Of what is shown only without scripts and of what is dropped, the pictures alone."""
    # A stack instead of a recursion: pages nest deeper than Python calls.
    # (node, its end?, in pre?, without scripts?, dropped by), the next one last
    left: list[tuple[Any, bool, bool, bool, str]] = [(page.root, False, False, False, "")]
    while left:
        node, is_end, verbatim, plain, selector = left.pop()
        name = node.tag
        if is_end:
            yield _End(node)
            continue
        if node.is_text_node:
            if not (plain or selector) and (text := node.text_content):
                yield _Words(text, verbatim)
            continue
        if not node.is_element_node or name in _NEVER:
            continue
        selector = selector or dropped.get(node.mem_id, "")
        plain = plain or name == "noscript"
        found: html_pictures.Found | None = None
        lost: Iterable[Picture] = ()
        if name == "picture" or (name == "img" and node.parent is not None and node.parent.tag == "picture"):
            found = html_pictures.chosen(page, node)
        elif name == "img":
            found = html_pictures.image(page, node)
        elif name in ("object", "embed", "input", "video"):
            found = html_pictures.embedded(page, node)
        elif name == "svg":
            lost = html_pictures.drawing(page, node)
        else:
            lost = html_pictures.backgrounds(page, node)
        if selector:
            reason = f"in an element that `drop` leaves out ({selector})"
            pictures = [found.picture()] if found else [one for one in lost if not one.short.startswith("<svg>")]
            lost = [replace(one, reason=reason, rule="drop") for one in pictures]
        elif found:
            yield _Shown(found, plain)
        yield from map(_Gone, lost)
        if name == "math" and not (plain or selector):
            yield _Words(_formula(node), False)
        if (found and name != "video") or name in ("img", "svg", "math"):
            continue
        if not (plain or selector):
            yield _Start(node)
            left.append((node, True, False, False, ""))
        verbatim = verbatim or name in _VERBATIM
        left.extend((child, False, verbatim, plain, selector) for child in reversed([*node.iter(include_text=True)]))


def _paired(events: Iterator[Event]) -> Iterator[Event]:
    """The events, but a picture for browsers without scripts right beside one that a script puts there is that one."""
    held: list[Event] = []  # a picture and what followed it, as long as that is no text
    for event in events:
        if isinstance(event, _Shown) and held and isinstance(before := held[0], _Shown):
            if event.plain and not before.plain and before.found.is_stand_in:
                before.found.instead += event.found.late + event.found.shown
                continue
            if before.plain and not event.plain and event.found.is_stand_in:
                event.found.instead += before.found.late + before.found.shown
                held.pop(0)
        if isinstance(event, _Shown):
            yield from held
            held = [event]
        elif isinstance(event, _Words) and not event.text.isspace():
            yield from held
            held = []
            yield event
        elif held:
            held.append(event)
        else:
            yield event
    yield from held


def _breaks(name: str, in_list: bool) -> int:
    if name in _LISTS and in_list:
        return 1
    return 2 if name in _PARAGRAPHS else int(name in _LINES)


def _marks(node) -> tuple[str, str] | None:
    """What stands before the first line of an element and before the others."""
    mark, prefix = node.attributes.get("x-mark"), node.attributes.get("x-prefix")
    return None if mark is None and prefix is None else (prefix or "" if mark is None else mark, prefix or "")


def _first_number(node) -> int | None:
    start = (node.attributes.get("start") or "1").strip()
    return None if node.tag != "ol" else int(start) if re.fullmatch(r"-?\d{1,9}", start) else 1


def _formula(node) -> str:
    """`<math>` as TeX between dollar signs where it says so, else its characters."""
    tex = next((one.text() for one in node.css("annotation") if "tex" in (one.attributes.get("encoding") or "").lower()), "")
    if tex := " ".join((tex or node.attributes.get("alttext") or "").split()):
        return f"$${tex}$$" if node.attributes.get("display") == "block" else f"${tex}$"
    words, left = [], [node]
    while left:
        part = left.pop()
        if part.is_text_node:
            words.append(part.text_content or "")
        elif part.tag not in ("annotation", "annotation-xml"):
            left.extend(reversed([*part.iter(include_text=True)]))
    return " ".join("".join(words).split())
