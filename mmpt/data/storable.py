"""What JSON and UTF-8 cannot hold, taken out of a document, so that one bad value does not cost all of it."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace

from mmpt.data.lost import Documents, Lost
from mmpt.document import Document, Speech, Text

RULE = "unstorable value"


def storable(documents: Documents) -> Documents:
    """The documents as a shard can hold them; what had to be changed of one is listed before it.

    Half of a surrogate pair in a text becomes U+FFFD; NaN and infinity in the meta become null, dates and the like text; bytes of
    an id that are no UTF-8 (from a file's name) become escapes, so that ids stay different.
    """
    for one in documents:
        yield from (one,) if isinstance(one, Lost) or _fits(one) else _changed(one)


def _changed(document: Document) -> Iterator[Document | Lost]:
    name = document.id.encode("utf-8", "backslashreplace").decode()
    parts = tuple(_part(part) for part in document.parts)
    changed = [f"part {place}" for place, (one, other) in enumerate(zip(parts, document.parts, strict=True)) if one != other]
    meta = {_text(str(key)): _value(value) for key, value in document.meta.items()}
    changed += [f"meta {key!r}" for key, value in meta.items() if not _same(value, document.meta.get(key))]
    if changed:
        yield Lost(name, f"{', '.join(changed)}: a number or a character that JSON cannot hold, replaced", name, False, RULE)
    yield Document(name, _text(document.source), parts, meta)


def _fits(document: Document) -> bool:
    texts = [[part.text, part.words] if isinstance(part, Speech) else vars(part).get("alt", "") for part in document.parts]
    texts += [part.text for part in document.parts if isinstance(part, Text)]
    try:
        json.dumps([document.id, document.source, document.meta, texts], ensure_ascii=False, allow_nan=False).encode()
        return True
    except (TypeError, ValueError):
        return False


def _part(part):
    if isinstance(part, Text):
        return replace(part, text=_text(part.text))
    if isinstance(part, Speech):
        return replace(part, text=_text(part.text), words=tuple((_text(word), *times) for word, *times in part.words))
    return replace(part, alt=_text(part.alt))


def _value(value: object) -> object:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {_text(str(key)): _value(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_value(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else _text(str(value))


def _text(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _same(value: object, before: object) -> bool:
    return value == before and type(value) is type(before)
