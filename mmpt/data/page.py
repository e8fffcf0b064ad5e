"""One self-contained HTML page of a set of document shards: documents as a reader sees them, and what each rule dropped."""

import io
from collections.abc import Iterable, Mapping, Sequence

from mmpt import html
from mmpt.data.lost import Lost, LostSum
from mmpt.document import Document, Image, Part, Speech, Text
from mmpt.errors import DataError
from mmpt.media import decode_image, encode_png

WIDEST = 720
"""Pixels of the longer side of a picture on the page; larger ones are made smaller."""
SMALLEST = 96
"""Pixels to which the longer side of a tiny picture (below 64) is enlarged, as blocks that can be seen."""
EXAMPLES = 12
"""Things shown of each rule."""


def render(
    title: str,
    total: int,
    documents: Iterable[Document],
    lost: Iterable[Lost] | LostSum,
    sources: Mapping[str, Document] | None = None,
    start: int | None = None,
) -> str:
    """The page. `total` is the number of documents in the set, of which `documents` are shown, from number `start` on.

    `sources` maps ids to documents as they were before, so that a dropped part can be shown and not only named. Everything
    that comes from the data is escaped, and a content security policy lets nothing be loaded or run.
    """
    shown = list(documents)
    summed = lost if isinstance(lost, LostSum) else LostSum(lost, EXAMPLES)
    rules = sorted(summed.examples.items())
    rows = [(html.tag("a", rule, href=f"#rule-{number}"), summed.counts[rule]) for number, (rule, _) in enumerate(rules)]
    body = [html.card(html.table(rows, ("lost or dropped by", "things")) if rows else "Nothing was lost.")]
    body += [_document(document) for document in shown]
    for number, (rule, found) in enumerate(rules):
        count = summed.counts[rule]
        body += [html.heading(f"{rule}: {count:,}", f"rule-{number}"), _dropped(found, count, sources or {})]
    numbers = f"number {start:,} to {start + len(shown) - 1:,}" if start is not None and shown else f"{len(shown):,} of them"
    lead = f"{total:,} documents, {numbers} on this page. Pictures larger than {WIDEST} pixels are shown smaller."
    return html.page(title, body, lead)


def _document(document: Document) -> html.Html:
    meta = html.table((key, str(value)) for key, value in document.meta.items())
    about = html.details(f"{document.source}, {len(document.parts)} parts", meta)
    return html.card(html.tag("h3", document.id), *map(_part, document.parts), html.tag("div", about, class_="quiet"))


def _part(part: Part) -> html.Html:
    if isinstance(part, Text):
        unlearned = part.weight == 0
        looks = "text unlearned" if unlearned else "text"
        return html.tag("div", part.text, class_=looks, title="read, never learned" if unlearned else None)
    if isinstance(part, Image):
        size = f"{part.width} × {part.height}"
        return _figure(_picture(part), f"{part.alt} · {size}" if part.alt else size)
    return _figure(html.audio(part.data, part.suffix), _about_speech(part))


def _about_speech(part: Speech) -> html.Html:
    said = f"“{part.text}” · {part.duration:.2f} s, {part.sample_rate} Hz"
    words = ", ".join(f"{word} {start:.2f}–{end:.2f}" for word, start, end in part.words)
    return html.join([said, html.details("word times", words) if words else ""])


def _figure(medium: html.Html, caption: object) -> html.Html:
    return html.tag("figure", medium, html.tag("figcaption", caption, class_="quiet"))


def _picture(part: Image) -> html.Html:
    try:
        picture = decode_image(part.data)
    except DataError as problem:
        return html.quiet(str(problem))
    data, suffix = part.data, part.suffix
    if max(picture.size) > WIDEST:
        picture.thumbnail((WIDEST, WIDEST))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=85)
        data, suffix = buffer.getvalue(), "jpeg"
    elif max(picture.size) < 64:  # tiny ones as blocks that can be seen
        scale = SMALLEST // max(picture.size)
        data, suffix = encode_png(picture.resize((picture.width * scale, picture.height * scale), resample=0)), "png"
    return html.image(data, suffix, part.alt)


def _dropped(found: Sequence[Lost], count: int, sources: Mapping[str, Document]) -> html.Html:
    items = []
    for one in found:
        what: list[object] = [f"{one.item}: {one.reason}"]
        document = sources.get(one.document)
        # The place of a lost part stands at the end of its name: "shard, key, part 3".
        index = one.item.rpartition(", part ")[2]
        if document and not one.whole and index.isdigit() and int(index) < len(document.parts):
            what.append(_part(document.parts[int(index)]))
        elif document and one.whole:
            what.append(html.details("the document", *map(_part, document.parts)))
        items.append(html.join(what))
    more = html.quiet(f"and {count - len(found):,} more in lost.jsonl") if count > len(found) else html.Html("")
    return html.join([html.bullets(items), more])
