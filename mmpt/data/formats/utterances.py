"""What the sources of transcribed speech share: one document for an utterance, (speech, text), whole or listed."""

from collections.abc import Callable

from mmpt.data.lost import Lost
from mmpt.data.parts import opened, piece_of, speech_part
from mmpt.data.store import Store
from mmpt.document import Document, Speech, Text
from mmpt.errors import DataError
from mmpt.media import Sound

DURATION_TOLERANCE = 0.1
"""Seconds by which a manifest's duration may differ from the file's."""
Words = tuple[tuple[str, float, float], ...]
"""(word, start, end) in seconds from the start of the utterance."""


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
    words: Words = (),
) -> Document | Lost:
    """The document of the file `audio` in `store` and its transcript, or why there is none.

    With `cut` it is the piece of `duration` seconds from `start`; else `duration`, where given, is what the file must have.
    """

    def speech(said: str) -> Speech:
        data = store.read(audio)
        if cut:
            return speech_part(data, said, words, sample_rate=sample_rate, start=start, duration=duration)
        return as_long_as(speech_part(data, said, words, sample_rate=sample_rate), duration)

    return spoken(store.path(audio), speech, text, document_id=document_id, source=source, meta=meta)


def as_long_as(speech: Speech, duration: float | None) -> Speech:
    """`speech` itself. Raises `DataError` where a manifest gives it another duration."""
    if duration is not None and not abs(speech.duration - duration) <= DURATION_TOLERANCE:
        raise DataError(f"{speech.duration:.2f} s of audio, {duration:.2f} s in the manifest")
    return speech


def spoken(
    where: str, speech: Callable[[str], Speech], text: object, *, document_id: str, source: str, meta: dict
) -> Document | Lost:
    """The document of what `speech` makes of the transcript, or why there is none; `where` says where it lies."""
    try:
        if not isinstance(text, str) or not text.strip():
            raise DataError("no transcript")
        part = speech(text.strip())
    except DataError as problem:
        return Lost(where, str(problem).removeprefix(f"{where}: "), document_id)
    return Document(document_id, source, (part, Text(part.text)), {key: value for key, value in meta.items() if value})


class LongRecordings:
    """Recordings of which one piece after the other is cut: the last one stays decoded."""

    def __init__(self, store: Store, sample_rate: int | None = None) -> None:
        self._store, self._sample_rate = store, sample_rate
        self._last: tuple[str, Sound] | None = None

    def piece(self, name: str, start: float, duration: float | None, text: str = "", words: Words = ()) -> Speech:
        """`duration` seconds from `start` of a file. Raises `DataError`."""
        if self._last is None or self._last[0] != name:
            self._last = (name, opened(self._store.read(name), self._sample_rate))
        return piece_of(self._last[1], start, duration, text, words)
