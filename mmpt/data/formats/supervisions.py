"""What lhotse's manifests say of a stretch of a recording, made a document."""

from collections.abc import Callable

from mmpt.data.formats.utterances import Words, spoken
from mmpt.data.lost import Documents, Lost
from mmpt.document import Document, Speech

_TOLERANCE = 0.1
"""Seconds by which a word may lie outside of its utterance."""


def supervised(
    where: str,
    supervision: dict,
    start: object,
    piece: Callable[[float, float, str, Words], Speech],
    *,
    document_id: str,
    source: str,
    language: str,
    license: str,
    aligned: bool = True,
) -> Documents:
    """The document of a `SupervisionSegment` in a cut that begins at `start` seconds; `piece` (start, duration, transcript,
    words) cuts it out of the recording. `aligned`: whether the times of its words are those of the recording."""
    try:
        # A supervision's times count from the start of its cut; those of its words from the start of the recording, since
        # lhotse moves a supervision with its cut, but not what is aligned in it.
        begin, duration = float(start) + float(supervision["start"]), float(supervision["duration"])  # pyright: ignore[reportArgumentType]
        found = (supervision.get("alignment") or {}).get("word") or () if aligned else ()
        words = tuple((str(word[0]), float(word[1]) - begin, float(word[1]) - begin + float(word[2])) for word in found)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as problem:
        yield Lost(where, f"no time of it ({type(problem).__name__}: {problem})", document_id)
        return
    inside = all(-_TOLERANCE <= first <= last <= duration + _TOLERANCE for _, first, last in words)
    meta = {
        "language": str(supervision.get("language") or language),
        "voice": str(supervision.get("speaker") or ""),
        "license": license,
    }
    document = spoken(
        where,
        lambda text: piece(begin, duration, text, words if inside else ()),
        supervision.get("text"),
        document_id=document_id,
        source=source,
        meta=meta,
    )
    if words and not inside and isinstance(document, Document):
        yield Lost(where, "its words are aligned outside of it: kept without their times", document_id, whole=False)
    yield document
