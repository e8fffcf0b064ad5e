"""What the sources of transcribed speech share: one document for an utterance, (speech, text), whole or listed."""

from mmpt.data.lost import Lost
from mmpt.data.parts import speech_part
from mmpt.data.store import Store
from mmpt.document import Document, Text
from mmpt.errors import DataError

DURATION_TOLERANCE = 0.1
"""Seconds by which a manifest's duration may differ from the file's."""


def utterance(
    store: Store,
    audio: str,
    text: object,
    *,
    document_id: str,
    source: str,
    meta: dict,
    start: float = 0.0,
    duration: float | None = None,
    cut: bool = False,
    sample_rate: int | None = None,
    words: tuple[tuple[str, float, float], ...] = (),
) -> Document | Lost:
    """The document of the file `audio` in `store` and its transcript, or why there is none.

    With `cut` it is the piece of `duration` seconds from `start`; else `duration`, where given, is what the file must have.
    """
    where = store.path(audio)
    try:
        if not isinstance(text, str) or not text.strip():
            raise DataError("no transcript")
        data = store.read(audio)
        piece = {"start": start, "duration": duration} if cut else {}
        speech = speech_part(data, text.strip(), words, sample_rate=sample_rate, **piece)
        if duration is not None and not cut and not abs(speech.duration - duration) <= DURATION_TOLERANCE:
            raise DataError(f"{speech.duration:.2f} s of audio, {duration:.2f} s in the manifest")
    except DataError as problem:
        return Lost(where, str(problem).removeprefix(f"{where}: "), document_id)
    return Document(document_id, source, (speech, Text(speech.text)), {key: value for key, value in meta.items() if value})
