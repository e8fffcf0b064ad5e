"""One self-contained HTML page in one style: text, tables, tiles of figures, plots, and parts of documents to see and hear.

What is text is escaped, what is `Html` stands as it is, and a content security policy lets nothing be loaded or run:

    page("A run", [heading("Figures"), table([["words", 12], ["picture", image(data, "png")]])])
"""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence

from mmpt.document import Image, Part, Text

_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
_MEDIA_TYPES = {
    **{name: f"image/{name}" for name in ("jpeg", "png", "webp", "gif")},
    **{name: f"audio/{name}" for name in ("wav", "flac", "ogg")},
    "jpg": "image/jpeg",
    "svg": "image/svg+xml",
    "mp3": "audio/mpeg",
}
_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#dfe3e8, #3a3f4a); --quiet: light-dark(#5b6570, #a3abba);
  --text: light-dark(#1c2127, #e6e8ec); --card: light-dark(#fff, #1d2027); --page: light-dark(#f6f7f9, #14161b);
  --link: light-dark(#2257c4, #8ab0ff); --good: light-dark(#1a7f4b, #5fc98f); --bad: light-dark(#b3372c, #f08a80); }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); margin: 0; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 28px; margin: 0 0 4px; overflow-wrap: anywhere; } h2 { font-size: 20px; margin: 40px 0 12px; }
h3 { font-size: 16px; margin: 0 0 12px; overflow-wrap: anywhere; }
.quiet { color: var(--quiet); } p.quiet, figcaption, li.quiet { font-size: 14px; overflow-wrap: anywhere; }
a { color: var(--link); } a:focus-visible, summary:focus-visible, audio:focus-visible { outline: 2px solid var(--link); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 20px; margin: 0 0 16px; }
.card > :first-child { margin-top: 0; } .card > :last-child { margin-bottom: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 12px; margin: 20px 0; }
.tiles .card { font-size: 14px; color: var(--quiet); margin: 0; }
.tiles b { display: block; font-size: 26px; color: var(--text); }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(440px, 100%), 1fr)); gap: 16px; margin: 12px 0; }
.plots .card { background: #fff; margin: 0; } .plots img { width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 600; font-size: 14px; color: var(--quiet); }
td, th { padding: 8px 14px 8px 0; border-top: 1px solid var(--line); vertical-align: top; overflow-wrap: break-word; }
tr:first-child > * { border-top: 0; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
audio { width: 100%; max-width: 420px; height: 36px; display: block; } td audio { min-width: 200px; max-width: 260px; }
figure { margin: 12px 0; } figure img { max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 6px; }
td img, .row img { width: 96px; height: 96px; object-fit: contain; border: 1px solid var(--line); border-radius: 4px;
  image-rendering: pixelated; vertical-align: middle; }
.row { display: flex; flex-wrap: wrap; gap: 16px; } .row figure { margin: 0; }
.wide img { width: 100%; height: auto; } .half audio { display: inline-block; width: 48%; margin-right: 2%; }
.right { color: var(--good); font-weight: 600; } .wrong { color: var(--bad); font-weight: 600; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; margin: 10px 0; }
.unlearned { color: var(--quiet); border-left: 3px solid var(--line); padding-left: 12px; }
pre { overflow-x: auto; font-size: 14px; }
details { margin: 12px 0; } summary { cursor: pointer; } li { margin: 6px 0; }
"""


class Html(str):
    """A piece of HTML, which is not escaped again."""


def escape(value: object) -> Html:
    """Any value as text; `Html` as it is."""
    return value if isinstance(value, Html) else Html(html.escape(str(value), quote=True))


def join(pieces: Iterable[object], between: str = "") -> Html:
    """Pieces one after the other, those that are no `Html` escaped."""
    return Html(html.escape(between).join(map(escape, pieces)))


def tag(name: str, *inside: object, **attributes: object) -> Html:
    """An element; an attribute that is a keyword of Python ends with `_` (`class_`), one that is None is left out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{given}>{join(inside)}</{name}>")


def page(title: str, body: Iterable[object], lead: object = "") -> str:
    """A whole page: its title, a `lead` under it, and the pieces of its body."""
    head = join([tag("h1", title), tag("p", lead, class_="quiet") if lead else ""])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>{head}{join(body)}</main></body></html>\n"
    )


def heading(text: object, anchor: str | None = None) -> Html:
    """A heading between parts of a page, to which `#anchor` leads."""
    return tag("h2", text, id=anchor)


def quiet(text: object) -> Html:
    """A remark."""
    return tag("p", text, class_="quiet")


def card(*inside: object, looks: str = "") -> Html:
    """A box; `looks`: further classes of the style, `wide` or `half`."""
    return tag("section", *inside, class_=f"card {looks}".strip())


def details(summary: object, *inside: object) -> Html:
    """What is shown when its summary is clicked."""
    return tag("details", tag("summary", summary), *inside)


def bullets(items: Iterable[object]) -> Html:
    """A list of remarks."""
    return tag("ul", *(tag("li", item, class_="quiet") for item in items))


def table(rows: Iterable[Sequence[object]], columns: Sequence[object] = ()) -> Html:
    """Rows of cells under the names of the `columns`; numbers stand to the right. It scrolls where it is too wide."""
    head = tag("tr", *(tag("th", column) for column in columns)) if columns else Html("")
    lines = [tag("tr", *map(_cell, row)) for row in rows]
    return tag("div", tag("table", head, *lines), class_="scroll")


def _cell(value: object) -> Html:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return tag("td", f"{value:,}" if number else value, class_="number" if number else None)


def verdict(right: bool) -> Html:
    """Whether an answer is right, in its colour."""
    return tag("span", "right" if right else "wrong", class_="right" if right else "wrong")


def tiles(figures: Iterable[tuple[str, str]]) -> Html:
    """(value, what it is) of figures, each large on a tile of its own."""
    return tag("div", *(card(tag("b", value), meaning) for value, meaning in figures), class_="tiles")


def figure_tiles(figures: Mapping[str, float], meanings: Mapping[str, str]) -> Html:
    """A tile for each of the `figures` that has a meaning, in the order of the meanings."""
    known = [(figures[name], meaning) for name, meaning in meanings.items() if name in figures]
    return tiles((f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}", meaning) for value, meaning in known)


def plots(svgs: Iterable[bytes]) -> Html:
    """SVG plots beside each other."""
    return tag("div", *(card(image(svg, "svg")) for svg in svgs), class_="plots")


def image(data: bytes, suffix: str, alt: str = "") -> Html:
    """A picture of encoded bytes."""
    return Html(f'<img loading="lazy" alt="{escape(alt)}" src="{data_uri(data, suffix)}">')


def audio(data: bytes, suffix: str) -> Html:
    """A sound of encoded bytes, to be played."""
    return tag("audio", controls="", preload="metadata", src=data_uri(data, suffix))


def part(content: Part) -> Html:
    """A part of a document as a reader sees or hears it."""
    if isinstance(content, Text):
        return escape(content.text)
    return image(content.data, content.suffix) if isinstance(content, Image) else audio(content.data, content.suffix)


def parts(contents: Iterable[Part]) -> Html:
    """Parts one after the other, a dash where there is none."""
    return join(map(part, contents), " ") or Html("—")


def data_uri(data: bytes, suffix: str) -> str:
    """A URI that holds `data`, encoded as files of `suffix` are."""
    return f"data:{_MEDIA_TYPES.get(suffix.lower(), 'application/octet-stream')};base64,{base64.b64encode(data).decode()}"
