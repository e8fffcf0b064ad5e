"""Read speech in LibriSpeech's layout: SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt beside SPEAKER-CHAPTER-NUMBER.flac.

sources: [{kind: librispeech, folder: LibriSpeech/train-clean-100}]
"""

from typing import NamedTuple

from mmpt.data.formats.utterances import utterance
from mmpt.data.lost import Documents, Lost
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store, files_of
from mmpt.data.unit import Unit, grouped
from mmpt.errors import ConfigError, DataError

_TRANSCRIPT = ".trans.txt"


class Chapter(NamedTuple):
    """The name of a transcript, None where there is none, and those of the audio files beside it."""

    transcript: str | None
    audio: list[str]


class LibriSpeech(NamedSource):
    """Read speech in LibriSpeech's layout: Panayotov et al. 2015, "LibriSpeech: an ASR corpus based on public domain audio books"
    (openslr.org/12)."""

    folder: str
    """One split, or a folder with several below it."""
    lowercase: bool = True
    """Whether the capitals of the transcripts become small letters."""
    sample_rate: int | None = None
    """Hz that the recordings must have; None: any."""
    language: str = "en"
    """Code of the language of the documents, for their meta."""
    license: str = "CC-BY-4.0"
    """License of the documents, for their meta."""

    def units(self) -> list[Unit[list[Chapter]]]:
        """Runs of chapters. Raises `ConfigError` where there is none."""
        files = files_of(self.folder)
        audio: dict[str, dict[str, int]] = {}
        for name, size in files.items():
            if name.endswith(".flac"):
                audio.setdefault(name.rpartition("/")[0], {})[name] = size
        chapters = [name for name in files if name.endswith(_TRANSCRIPT)]
        if not chapters:
            raise ConfigError(f"{self.folder}: no *{_TRANSCRIPT} in it")
        found: list[tuple[str | None, dict[str, int]]] = [(name, audio.pop(name.rpartition("/")[0], {})) for name in chapters]
        found += [(None, sizes) for sizes in audio.values()]  # what is left has no transcript beside it
        return grouped((Chapter(name, list(sizes)), sum(sizes.values())) for name, sizes in found)

    def read(self, unit: Unit[list[Chapter]]) -> Documents:
        """One document for each line; a line without its audio and audio without its line are listed."""
        store, source = Store(self.folder), self.source_name(self.folder)
        for transcript, audio in unit.what:
            if transcript is None:
                yield from (Lost(store.path(name), f"no *{_TRANSCRIPT} beside it") for name in audio)
                continue
            folder = transcript.rpartition("/")[0]
            try:
                lines = store.read(transcript).split(b"\n")
            except DataError as problem:
                yield Lost(store.path(transcript), str(problem))
                continue
            left = set(audio)
            for number, line in enumerate(lines, start=1):
                try:
                    key, _, text = line.decode("utf-8").strip().partition(" ")
                except UnicodeDecodeError as problem:
                    yield Lost(f"{store.path(transcript)}, line {number}", f"no UTF-8 ({problem})")
                    continue
                if not key:
                    continue
                name = f"{folder}/{key}.flac" if folder else f"{key}.flac"
                left.discard(name)
                meta = {"language": self.language, "voice": key.partition("-")[0], "license": self.license}
                yield utterance(
                    store,
                    name,
                    text.lower() if self.lowercase else text,
                    document_id=f"{source}/{key}",
                    source=source,
                    meta=meta,
                    sample_rate=self.sample_rate,
                )
            for name in sorted(left):
                yield Lost(store.path(name), f"no line in {transcript}")
