"""Speech in LJSpeech's layout: metadata.csv with ID|TEXT|NORMALIZED beside wavs/ID.wav.

sources: [{kind: ljspeech, folder: LJSpeech-1.1}]
"""

import codecs
from typing import NamedTuple

from mmpt.data.formats.utterances import utterance
from mmpt.data.lost import Documents, Lost
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store
from mmpt.data.unit import Unit, grouped
from mmpt.errors import ConfigError, DataError

METADATA = "metadata.csv"


class Line(NamedTuple):
    """A line of the table, counted from 1; `text` is None where it is no UTF-8."""

    number: int
    text: str | None


class LJSpeech(NamedSource):
    """Speech in LJSpeech's layout: Ito and Johnson 2017, "The LJ Speech Dataset" (keithito.com/LJ-Speech-Dataset)."""

    folder: str
    """Folder with metadata.csv and wavs/."""
    normalized: bool = True
    """Whether the transcript is the third field, with numbers and abbreviations written out, else the second."""
    voice: str = ""
    """Name of the speaker, for the meta."""
    sample_rate: int | None = None
    """Hz that the recordings must have; None: any."""
    language: str = "en"
    """Code of the language of the documents, for their meta."""
    license: str = ""
    """License of the documents, for their meta."""

    def units(self) -> list[Unit[list[Line]]]:
        """Runs of lines. Raises `ConfigError` where the table is missing."""
        store = Store(self.folder)
        try:
            lines = [_decoded(line) for line in store.read(METADATA).removeprefix(codecs.BOM_UTF8).split(b"\n")]
            sizes = store.files()
        except DataError as problem:
            raise ConfigError(str(problem)) from None
        return grouped(
            (Line(number, line), sizes.get(f"wavs/{(line or '').partition('|')[0]}.wav", 0))
            for number, line in enumerate(lines, start=1)
            if line is None or line.strip()
        )

    def read(self, unit: Unit[list[Line]]) -> Documents:
        """One document for each line."""
        store, source = Store(self.folder), self.source_name(self.folder)
        for number, line in unit.what:
            if line is None:
                yield Lost(f"{store.path(METADATA)}, line {number}", "no UTF-8")
                continue
            fields = line.split("|")
            if len(fields) not in (2, 3):
                yield Lost(f"{store.path(METADATA)}, line {number}", f"{len(fields)} fields, expected ID|TEXT|NORMALIZED")
                continue
            yield utterance(
                store,
                f"wavs/{fields[0]}.wav",
                fields[-1] if self.normalized else fields[1],
                document_id=f"{source}/{fields[0]}",
                source=source,
                meta={"language": self.language, "voice": self.voice, "license": self.license},
                sample_rate=self.sample_rate,
            )


def _decoded(line: bytes) -> str | None:
    try:
        return line.decode("utf-8").rstrip("\r")
    except UnicodeDecodeError:
        return None
