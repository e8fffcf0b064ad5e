"""One self-contained HTML page of a set of document shards: documents as a reader sees them, and what each rule dropped."""

import base64
import html
import io
from collections import defaultdict
from collections.abc import Iterable
from itertools import islice

from mmpt.data.lost import BAD_DATA, Lost
from mmpt.document import Document, Image, Part, Text
from mmpt.errors import DataError
from mmpt.media import decode_image, encode_png

WIDEST = 720
"""Pixels of the longer side of a picture on the page; larger ones are made smaller."""
EXAMPLES = 12
"""Things shown of each rule."""
_TYPES = {"wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg", "mp3": "audio/mpeg"}
_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d5d8de, #3a3f4a); --soft: light-dark(#5b6270, #a3abba);
  --card: light-dark(#fff, #1d2027); --page: light-dark(#f4f5f7, #14161b); --mark: light-dark(#2257c4, #8ab0ff); }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); font: 16px/1.55 system-ui, sans-serif; }
header, main { max-width: 860px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0 0 .75rem; overflow-wrap: anywhere; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.25rem;
  margin: 0 0 1.25rem; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; margin: .6rem 0; }
.unlearned { color: var(--soft); border-left: 3px solid var(--line); padding-left: .75rem; }
figure { margin: .8rem 0; }
img { max-width: 100%; height: auto; border-radius: 6px; border: 1px solid var(--line); }
audio { width: 100%; max-width: 420px; display: block; }
figcaption, .meta, .reason { color: var(--soft); font-size: .875rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .2rem 1rem .2rem 0; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
a { color: var(--mark); } a:focus-visible, summary:focus-visible, audio:focus-visible { outline: 2px solid var(--mark); }
details { margin: .5rem 0; } summary { cursor: pointer; }
li { margin: .35rem 0; }
"""


def render(
    title: str, total: int, documents: Iterable[Document], lost: Iterable[Lost], sources: dict[str, Document] | None = None
) -> str:
    """The page. `total` is the number of documents in the set, of which `documents` are shown.

    `sources` maps ids to documents as they were before, so that a dropped part can be shown and not only named. Everything
    that comes from the data is escaped, and a content security policy lets nothing be loaded or run.
    """
    shown = list(documents)
    by_rule: dict[str, list[Lost]] = defaultdict(list)
    for one in lost:
        by_rule[one.rule or BAD_DATA].append(one)
    rows = "".join(
        f'<tr><td><a href="#rule-{number}">{_text(rule)}</a></td><td class="number">{len(found):,}</td></tr>'
        for number, (rule, found) in enumerate(sorted(by_rule.items()))
    )
    table = f"<table><tr><th>lost or dropped by</th><th>things</th></tr>{rows}</table>" if rows else "<p>Nothing was lost.</p>"
    sections = "".join(
        f'<h2 id="rule-{number}">{_text(rule)}: {len(found):,}</h2>{_dropped(found, sources or {})}'
        for number, (rule, found) in enumerate(sorted(by_rule.items()))
    )
    policy = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body><header><h1>{_text(title)}</h1>"
        f"<p>{total:,} documents, {len(shown):,} of them on this page. "
        f"Pictures larger than {WIDEST} pixels are shown smaller.</p>"
        f"{table}</header><main>{''.join(map(_document, shown))}{sections}</main></body></html>"
    )


def _document(document: Document) -> str:
    meta = "".join(f"<tr><td>{_text(str(key))}</td><td>{_text(str(value))}</td></tr>" for key, value in document.meta.items())
    return (
        f"<article><h3>{_text(document.id)}</h3>{''.join(map(_part, document.parts))}"
        f'<details class="meta"><summary>{_text(document.source)}, {len(document.parts)} parts</summary>'
        f"<table>{meta}</table></details></article>"
    )


def _part(part: Part) -> str:
    unlearned = ' class="text unlearned" title="read, never learned"' if part.weight == 0 else ' class="text"'
    if isinstance(part, Text):
        return f"<div{unlearned}>{_text(part.text)}</div>"
    if isinstance(part, Image):
        caption = f"{_text(part.alt)} · {part.width} × {part.height}" if part.alt else f"{part.width} × {part.height}"
        return f"<figure>{_picture(part)}<figcaption>{caption}</figcaption></figure>"
    words = ", ".join(f"{_text(word)} {start:.2f}–{end:.2f}" for word, start, end in part.words)
    times = f"<details><summary>word times</summary>{words}</details>" if words else ""
    source = f"data:{_TYPES[part.suffix]};base64,{base64.b64encode(part.data).decode()}"
    return (
        f'<figure><audio controls preload="none" src="{source}"></audio>'
        f"<figcaption>“{_text(part.text)}” · {part.duration:.2f} s, {part.sample_rate} Hz{times}</figcaption></figure>"
    )


def _picture(part: Image) -> str:
    try:
        picture = decode_image(part.data)
    except DataError as problem:
        return f'<p class="reason">{_text(str(problem))}</p>'
    data, suffix = part.data, part.suffix
    if max(picture.size) > WIDEST:
        picture.thumbnail((WIDEST, WIDEST))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=85)
        data, suffix = buffer.getvalue(), "jpeg"
    elif max(picture.size) < 64:  # tiny ones as blocks that can be seen
        scale = 96 // max(picture.size)
        data, suffix = encode_png(picture.resize((picture.width * scale, picture.height * scale), resample=0)), "png"
    kind = "jpeg" if suffix == "jpg" else suffix
    return f'<img loading="lazy" alt="{_text(part.alt)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def _dropped(found: list[Lost], sources: dict[str, Document]) -> str:
    items = []
    for one in islice(found, EXAMPLES):
        what = f"{_text(one.item)}: {_text(one.reason)}"
        document = sources.get(one.document)
        place = one.item.rpartition(", part ")[2]
        if document and not one.whole and place.isdigit() and int(place) < len(document.parts):
            what += _part(document.parts[int(place)])
        elif document and one.whole:
            what += f"<details><summary>the document</summary>{''.join(map(_part, document.parts))}</details>"
        items.append(f'<li class="reason">{what}</li>')
    more = f'<p class="reason">and {len(found) - EXAMPLES:,} more in lost.jsonl</p>' if len(found) > EXAMPLES else ""
    return f"<ul>{''.join(items)}</ul>{more}"


def _text(value: str) -> str:
    return html.escape(value, quote=True)
