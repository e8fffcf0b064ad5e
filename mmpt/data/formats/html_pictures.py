"""The pictures of an HTML tree: which element shows one, and by which references it can be had."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from mmpt.data.formats.html_tree import Page
from mmpt.data.formats.references import Picture, is_picture_file

_LATE = (
    "data-src",
    "data-original",
    "data-lazy-src",
    "data-lazy",
    "data-original-src",
    "data-actualsrc",
    "data-echo",
    "data-url",
)
_LATE_SETS = ("data-srcset", "data-lazy-srcset", "data-original-set")
_STAND_IN = re.compile(r"(?:blank|spacer|placeholder|loading|transparent|pixel|1x1)[\w.-]*\Z", re.IGNORECASE)
_URL = re.compile(r"""url\(\s*("[^"]*"|'[^']*'|[^)'"]*)\s*\)""", re.IGNORECASE)
BACKGROUND = "a background: not in the text's order"
DRAWN = "drawn in the page (svg)"


@dataclass
class Found:
    """An element that shows a picture. `late` are the references that a script would put in the place of `shown`, `instead`
    those of a browser without scripts, `more` others of the same picture."""

    page: Page
    alt: str
    line: int
    late: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    instead: list[str] = field(default_factory=list)
    more: list[str] = field(default_factory=list)
    waits: bool = False
    anywhere: bool = False

    @property
    def is_stand_in(self) -> bool:
        """Whether what the element shows at first is not the picture."""
        return bool(self.late) or self.waits or all(target[:5].lower() == "data:" for target in self.shown)

    def picture(self) -> Picture:
        shown = self.shown
        if self.late or self.instead or self.more:  # data in the page is then a blurred or empty stand-in
            shown = [target for target in shown if target[:5].lower() != "data:"] if self.is_stand_in else shown
        first, second = (self.instead, shown) if self.is_stand_in else (shown, self.instead)
        # What a script would load is the picture itself; without one, the stand-in is worth less than what browsers without
        # scripts are given.
        targets = dict.fromkeys(self.page.based(target) for target in [*self.late, *first, *second, *self.more])
        return Picture(tuple(target for target in targets if target) or ("",), self.alt, self.line, self.anywhere)


def image(page: Page, node) -> Found:
    """What `<img>` shows."""
    has = node.attributes
    late, shown, more = [], [], []
    for name in _LATE_SETS:
        late += candidates(has.get(name) or "")
    late += [has[name] for name in _LATE if (has.get(name) or "").strip()]
    shown += candidates(has.get("srcset") or "")
    if (has.get("src") or "").strip():
        shown.append(has["src"])
    for name, value in has.items():
        if name.startswith("data-") and name not in _LATE and value and not re.search(r"[\s{]", value.strip()):
            more += [value] if is_picture_file(value) else []
    waits = "lazy" in (has.get("class") or "") or bool(_STAND_IN.search(has.get("src") or ""))
    line = page.line(node, next((has[name] for name in ("src", "srcset", *_LATE, *_LATE_SETS) if has.get(name)), ""))
    return Found(
        page,
        _text(has.get("alt")),
        line,
        late,
        shown,
        more=more,
        waits=waits,
        anywhere="x-anywhere" in has,
    )


def chosen(page: Page, node) -> Found | None:
    """What `<img>` in a `<picture>`, or a `<picture>` without one, shows: the first source, else the image itself.

    Sources for some screens only come last, where nothing else can be had.
    """
    if node.tag == "picture" and node.css_first("img"):
        return None
    found = image(page, node) if node.tag == "img" else Found(page, "", 0)
    late, first, last = [], [], []
    for source in (node if node.tag == "picture" else node.parent).iter():
        has = source.attributes if source.tag == "source" else {}
        sets = candidates(has.get("srcset") or "") or ([has["src"]] if has.get("src") else [])
        (last if has.get("media") else first).extend(sets)
        for name in _LATE_SETS:
            (last if has.get("media") else late).extend(candidates(has.get(name) or ""))
        found.line = found.line or (page.line(source, has.get("srcset") or has.get("src") or "") if has else 0)
    found.late, found.shown, found.more = late + found.late, first + found.shown, last + found.more
    return found if node.tag == "img" or late or first or last else None


def embedded(page: Page, node) -> Found | None:
    """What `<object>`, `<embed>`, `<input type=image>` or `<video poster>` shows, where that is a picture."""
    has = node.attributes
    name = {"object": "data", "video": "poster"}.get(node.tag, "src")
    target = has.get(name) or ""
    kind = (has.get("type") or "").strip().lower()
    if node.tag == "input" and kind != "image" or node.tag == "video" and not target.strip():
        return None
    if node.tag in ("object", "embed") and not (kind.startswith("image/") or is_picture_file(target)):
        return None
    found = Found(page, _text(has.get("alt") or has.get("aria-label")), page.line(node, target), shown=[target])
    if node.tag == "object":
        found.alt = found.alt or _text(node.text())
        for other in node.css("img"):
            other = image(page, other)
            found.more += other.late + other.shown
            found.alt = found.alt or other.alt
    return found


def drawing(page: Page, node) -> Iterator[Picture]:
    """An inline `<svg>`: the drawing itself, and the pictures it refers to. None of them can be had."""
    label = node.attributes.get("aria-label") or next((_text(title.text()) for title in node.css("title")), "")
    line = page.line(node, "<svg")
    yield Picture((f"<svg> {_text(label)}".rstrip(),), "", line, reason=DRAWN)
    for part in node.css("image"):
        if target := part.attributes.get("href") or part.attributes.get("xlink:href"):
            yield Picture((page.based(target),), "", page.line(part, target), reason=DRAWN)


def backgrounds(page: Page, node) -> Iterator[Picture]:
    """The pictures behind an element by its own attributes."""
    has = node.attributes
    style = has.get("style") or ""
    for match in _URL.finditer(style) if "url(" in style.lower() else ():
        target = match[1].strip("\"' ")
        if target and not target.startswith("#"):
            yield Picture((page.based(target),), "", page.line(node, style), reason=BACKGROUND)
    if target := has.get("background"):
        yield Picture((page.based(target),), "", page.line(node, target), reason=BACKGROUND)


def candidates(srcset: str) -> list[str]:
    """The references of a `srcset`, the largest picture first."""
    found: list[tuple[float, str]] = []
    at = 0
    while match := re.compile(r"[\s,]*([^\s,]\S*)").match(srcset, at):
        at, target, size = match.end(), match[1], ""
        if not target.endswith(","):
            end = srcset.find(",", at)
            size, at = srcset[at : end if end >= 0 else len(srcset)].strip(), end if end >= 0 else len(srcset)
        number = re.match(r"(\d+(?:\.\d+)?)[wx]", size)
        found.append((float(number[1]) if number else 1.0, target.rstrip(",")))
    largest = [target for _, target in sorted(found, key=lambda one: -one[0])]
    # "a.png,b.png 2x" is one reference by the standard, and two by what its author meant.
    return largest + [
        piece for target in largest if "," in target and target[:5] != "data:" for piece in target.split(",") if piece
    ]


def _text(value: str | None) -> str:
    return " ".join((value or "").split())
