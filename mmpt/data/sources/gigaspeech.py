"""Speech of GigaSpeech: GigaSpeech.json beside audio/, each segment cut from its long recording.

sources: [{kind: gigaspeech, folder: GigaSpeech/, subset: S}]
"""

import json
import re

from mmpt.data.formats import rows_json
from mmpt.data.formats.row_range import RowRange
from mmpt.data.formats.utterances import LongRecordings, spoken
from mmpt.data.lost import Documents, Lost
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store
from mmpt.data.unit import UNIT_BYTES, Unit
from mmpt.document import Speech
from mmpt.errors import ConfigError, DataError

_AUDIOS = re.compile(r'"audios"\s*:\s*\[\s*')
_BETWEEN = re.compile(r"\s*,\s*")
_BYTES_PER_SECOND = 4000
"""Of the recordings, which are Opus at 32 kbit/s."""
_SIGNS = {"<COMMA>": ",", "<PERIOD>": ".", "<QUESTIONMARK>": "?", "<EXCLAMATIONPOINT>": "!"}
_NO_SPEECH = ("<SIL>", "<MUSIC>", "<NOISE>", "<OTHER>")
RULE = "no_speech"


class GigaSpeech(NamedSource):
    """GigaSpeech's manifest and recordings: Chen et al. 2021, "GigaSpeech: an evolving, multi-domain ASR corpus with 10,000 hours
    of transcribed audio" (arXiv:2106.06909; SpeechColab/GigaSpeech)."""

    folder: str
    """Folder or URL with the manifest and the recordings that it names."""
    manifest: str = "GigaSpeech.json"
    """Name of the manifest in the folder."""
    subset: str = ""
    """Segments of this subset alone: XS, S, M, L, XL, DEV, TEST; empty: all."""
    punctuation: bool = True
    """Whether marks such as <COMMA> become signs; else they are left out."""
    lowercase: bool = True
    """Whether the capitals of the transcripts become small letters."""
    sample_rate: int | None = None
    """Hz that the recordings must have; None: any."""
    language: str = "en"
    """Code of the language of the documents, for their meta."""
    license: str = ""
    """License of the documents, for their meta."""

    def units(self) -> list[Unit[RowRange]]:
        """Runs of recordings with their segments. Raises `ConfigError` where there is no manifest, or it is damaged."""
        store = Store(self.folder)
        path = store.path(self.manifest)
        try:
            text = store.read(self.manifest).decode("utf-8")
            if (head := _AUDIOS.search(text)) is None:
                raise DataError(f"{path}: no list `audios` in it")
            return list(_cut(self.manifest, text, head.end()))
        except (DataError, ValueError, RecursionError) as problem:
            reason = str(problem) if isinstance(problem, DataError) else f"{path}: damaged JSON ({problem})"
            raise ConfigError(reason) from None

    def read(self, unit: Unit[RowRange]) -> Documents:
        """One document for each segment of the subset; those in which nobody speaks are listed."""
        store, source = Store(self.folder), self.source_name(self.folder)
        recordings = LongRecordings(store, self.sample_rate)
        for one in rows_json.read(store, unit.what):
            if isinstance(one, Lost):
                yield one
                continue
            where, audio = one
            name, segments = audio.get("path"), audio.get("segments")
            if not isinstance(name, str) or not isinstance(segments, list):
                yield Lost(where, "path must be text, segments a list")
                continue
            for segment in segments:
                yield from self._segment(where, recordings, name, segment, source)

    def _segment(self, where: str, recordings: LongRecordings, audio: str, segment: object, source: str) -> Documents:
        try:
            assert isinstance(segment, dict)
            sid, start, end, text = (
                str(segment["sid"]),
                float(segment["begin_time"]),
                float(segment["end_time"]),
                segment["text_tn"],
            )
            subsets = [str(one).strip("{}") for one in segment.get("subsets", ())]
        except (AssertionError, KeyError, TypeError, ValueError):
            yield Lost(where, "a segment without sid, begin_time, end_time and text_tn")
            return
        if self.subset and self.subset not in subsets:
            return
        document_id, where = f"{source}/{sid}", f"{where}, {sid}"
        if isinstance(text, str) and text.strip() in _NO_SPEECH:
            yield Lost(where, text.strip(), document_id, rule=RULE)
            return

        def speech(said: str) -> Speech:
            return recordings.piece(audio, start, end - start, said)

        voice = str(segment.get("speaker") or "")
        meta = {"language": self.language, "voice": "" if voice == "N/A" else voice, "license": self.license}
        said = self._written(text) if isinstance(text, str) else text
        yield spoken(where, speech, said, document_id=document_id, source=source, meta=meta)

    def _written(self, text: str) -> str:
        for mark, sign in _SIGNS.items():
            text = re.sub(rf"\s*{mark}", sign if self.punctuation else "", text)
        return text.lower() if self.lowercase else text


def _cut(name: str, text: str, at: int) -> list[Unit[RowRange]]:
    """Pieces of about `UNIT_BYTES` of recordings, found by decoding the list's items one by one. Raises `ValueError`."""
    decode = json.JSONDecoder().raw_decode
    units: list[Unit[RowRange]] = []
    first = number = size = 0
    begin, place = at, len(text[:at].encode())  # where the piece begins, in characters and in bytes
    while text[at : at + 1] not in ("]", ""):
        audio, at = decode(text, at)
        number += 1
        seconds = audio.get("duration") if isinstance(audio, dict) else 0
        size += int(_BYTES_PER_SECOND * seconds) if isinstance(seconds, int | float) else 0
        comma = _BETWEEN.match(text, at)
        if size >= UNIT_BYTES or comma is None:
            length = len(text[begin:at].encode())
            units.append(Unit(RowRange(name, start=place, end=place + length, item=first), max(size, 1)))
            begin, place, first, size = at, place + length, number, 0
        if comma is None:
            break
        at = comma.end()
    if not units:
        raise DataError(f"{name}: no recordings in it")
    return units
