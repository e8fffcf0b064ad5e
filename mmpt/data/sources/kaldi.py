"""Speech of a Kaldi folder: wav.scp, text and, where there are any, segments, utt2spk and utt2lang.

sources: [{kind: kaldi, folder: data/train}]
"""

from functools import lru_cache

from mmpt.data.formats.utterances import LongRecordings, spoken
from mmpt.data.lost import Documents, Lost
from mmpt.data.parts import speech_part
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store
from mmpt.data.unit import Unit, grouped
from mmpt.document import Speech
from mmpt.errors import ConfigError, DataError

UTTERANCE_BYTES = 128 << 10
"""About how many bytes of sound an utterance is."""
Table = dict[str, str]


class Kaldi(NamedSource):
    """A data folder of Kaldi (Povey et al. 2011, "The Kaldi speech recognition toolkit"; kaldi-asr.org/doc/data_prep.html), as
    speechocean762 (Zhang et al. 2021, arXiv:2104.01378) and many others are laid out.

    Commands in wav.scp (lines that end with `|`) are never run: their utterances are listed. Convert such recordings first
    (Kaldi's wav-copy), or name the files.
    """

    folder: str
    """Folder or URL with wav.scp and text."""
    audio: str = ""
    """Folder that paths in wav.scp are relative to, or begin with; empty: the folder itself. No path may lead out of it."""
    sample_rate: int | None = None
    """Hz that the recordings must have; None: any."""
    lowercase: bool = False
    """Whether transcripts become small letters."""
    language: str = ""
    """Code of the language of the documents, for their meta, where utt2lang says none."""
    license: str = ""
    """License of the documents, for their meta."""

    def units(self) -> list[Unit[list[str]]]:
        """Runs of utterances, by their ids in the order of `text` or, where there is one, of `segments`, so that those of one
        recording come together. Raises `ConfigError` where wav.scp or text is missing, or a line has no id or is there twice."""
        try:
            texts, wavs, segments = (_table(self.folder, name) for name in ("text", "wav.scp", "segments"))
            if not texts or not wavs:
                raise DataError(f"{self.folder}: no {'wav.scp' if texts else 'text'}, or nothing in it")
        except DataError as problem:
            raise ConfigError(str(problem)) from None
        names: dict[str, None] = dict.fromkeys([*segments, *texts, *([] if segments else wavs)])
        return grouped((name, UTTERANCE_BYTES) for name in names)

    def read(self, unit: Unit[list[str]]) -> Documents:
        """One document for each utterance; what is in one table and not in another is listed."""
        source, folder = self.source_name(self.folder), (self.audio or self.folder).rstrip("/")
        tables = {name: _table(self.folder, name) for name in ("text", "wav.scp", "segments", "utt2spk", "utt2lang")}
        store = Store(folder)
        recordings = LongRecordings(store, self.sample_rate)
        for name in unit.what:
            where = f"{self.folder.rstrip('/')}/text: {name}"
            text = tables["text"].get(name, "")
            try:
                audio, start, end = _place(name, tables)
            except DataError as problem:
                yield Lost(where, str(problem), f"{source}/{name}")
                continue
            audio = audio.removeprefix(f"{folder}/")

            def speech(said: str, audio: str = audio, start: float = start, end: float | None = end) -> Speech:
                if tables["segments"]:
                    return recordings.piece(audio, start, None if end is None else end - start, said)
                return speech_part(store.read(audio), said, sample_rate=self.sample_rate)

            meta = {
                "language": tables["utt2lang"].get(name, self.language),
                "voice": tables["utt2spk"].get(name, ""),
                "license": self.license,
            }
            said = text.lower() if self.lowercase else text
            yield spoken(where, speech, said, document_id=f"{source}/{name}", source=source, meta=meta)


def _place(name: str, tables: dict[str, Table]) -> tuple[str, float, float | None]:
    """(path of the recording, start, end in seconds; None: its end). Raises `DataError`."""
    recording, start, end = name, 0.0, None
    if tables["segments"]:
        try:
            recording, begin, stop = tables["segments"][name].split()[:3]
            start, end = float(begin), float(stop)
        except KeyError:
            raise DataError("not in segments") from None
        except ValueError:
            raise DataError(f"segments: expected a recording and two times, found {tables['segments'][name]!r}") from None
        end = None if end < 0 else end  # Kaldi's mark of the end of the recording
        if not 0 <= start < (float("inf") if end is None else end):
            raise DataError(f"segments: no piece from {start} s to {end} s")
    path = tables["wav.scp"].get(recording)
    if path is None:
        raise DataError(f"recording {recording} is not in wav.scp")
    if path.endswith("|") or path.startswith("|") or path == "-":
        raise DataError(f"wav.scp: a command, which is not run ({path[:80]})")
    return path, start, end


@lru_cache(maxsize=16)
def _table(folder: str, name: str) -> Table:
    """First word of each line → the rest; empty where there is no such file. Read once in each process. Raises `DataError`."""
    store = Store(folder)
    if not store.exists(name):
        return {}
    found: Table = {}
    for number, line in enumerate(store.read(name).split(b"\n"), 1):
        try:
            key, _, rest = line.decode("utf-8").strip().replace("\t", " ").partition(" ")
        except UnicodeDecodeError as problem:
            raise DataError(f"{store.path(name)}, line {number}: no UTF-8 ({problem})") from None
        if key in found:
            raise DataError(f"{store.path(name)}, line {number}: {key} is there twice")
        if key:
            found[key] = rest.strip()
    return found
