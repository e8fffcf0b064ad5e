"""An HTML tree as runs of text with the pictures between them, in the order of the document.

Breaks are much like those of `innerText` in the HTML standard (html.spec.whatwg.org, 3.2.7), with an empty line around each
block, the marks of list items written out, and what lies in an item as far in as its text.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

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
    for kind, what, flag in _paired(_events(page, page.marked(drop))):
        if kind == "text":
            run.add_verbatim(what) if flag else run.add(_SPACES.sub(" ", what))
        elif kind == "picture":
            if text := run.take():
                yield text
            yield what.picture()
        elif kind == "lost":
            yield what
        elif kind == "end":
            if what.tag in _LISTS:
                lists.pop()
            elif what.tag == "tr":
                rows.pop()
            if what.tag == "li" or _marks(what):
                run.pop()
            run.block(_breaks(what.tag, bool(lists)))
        elif what.tag == "br":
            run.line()
        else:
            run.block(_breaks(what.tag, bool(lists)))
            if what.tag in _LISTS:
                lists.append(_first_number(what))
            elif what.tag == "tr":
                rows.append(False)
            elif what.tag in ("td", "th") and rows:
                run.tabs += rows[-1]
                rows[-1] = True
            if what.tag == "li":
                number = lists[-1] if lists else None
                lists[-1:] = lists[-1:] if number is None else [number + 1]
                mark = "- " if number is None else f"{number}. "
                run.push(mark, " " * len(mark))
            elif marks := _marks(what):
                run.push(*marks)
    if text := run.take():
        yield text


Event = tuple[str, object, bool]
"""("start" | "end", element, False), ("text", its characters, verbatim?), ("picture", `Found`, for browsers without scripts?),
("lost", `Picture`, False)."""


def _events(page: Page, dropped: dict[int, str]) -> Iterator[Event]:
    """What lies in a tree, in order. Of what is shown only without scripts and of what is dropped, the pictures alone."""
    left = [(page.root, False, False, False, "")]  # (node, its end?, in pre?, without scripts?, dropped by), the next one last
    while left:
        node, is_end, verbatim, plain, selector = left.pop()
        name = node.tag
        if is_end:
            yield "end", node, False
            continue
        if node.is_text_node:
            if not (plain or selector) and (text := node.text_content):
                yield "text", text, verbatim
            continue
        if not node.is_element_node or name in _NEVER:
            continue
        selector = selector or dropped.get(node.mem_id, "")
        plain = plain or name == "noscript"
        found, lost = None, ()
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
            yield "picture", found, plain
        yield from (("lost", one, False) for one in lost)
        if name == "math" and not (plain or selector):
            yield "text", _formula(node), False
        if (found and name != "video") or name in ("img", "svg", "math"):
            continue
        if not (plain or selector):
            yield "start", node, False
            left.append((node, True, False, False, ""))
        verbatim = verbatim or name in _VERBATIM
        left.extend((child, False, verbatim, plain, selector) for child in reversed([*node.iter(include_text=True)]))


def _paired(events: Iterator[Event]) -> Iterator[Event]:
    """The events, but a picture for browsers without scripts right beside one that a script puts there is that one."""
    held: list[Event] = []  # a picture and what followed it, as long as that is no text
    for event in events:
        kind, what, plain = event
        if kind == "picture" and held:
            _, other, other_plain = held[0]
            if plain and not other_plain and other.is_stand_in:
                other.instead += what.late + what.shown
                continue
            if other_plain and not plain and what.is_stand_in:
                what.instead += other.late + other.shown
                held.pop(0)
        if kind == "picture" or (kind == "text" and not what.isspace()):
            yield from held
            held = [event] if kind == "picture" else []
            if kind == "text":
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
