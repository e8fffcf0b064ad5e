"""Speech with the times of its words and phones: NAME.TextGrid beside NAME.flac, .wav, .ogg or .mp3.

sources: [{kind: textgrid, folder: aligned/}]
"""

from typing import NamedTuple

from mmpt.data.formats.textgrid import Interval, read_textgrid
from mmpt.data.formats.utterances import spoken
from mmpt.data.lost import Documents, Lost
from mmpt.data.parts import speech_part
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store, files_of
from mmpt.data.unit import Unit, grouped
from mmpt.document import SPEECH_SUFFIXES
from mmpt.errors import ConfigError, DataError

SUFFIX = ".TextGrid"
_TOLERANCE = 0.1
"""Seconds by which an interval may reach beyond the end of the sound."""


class Aligned(NamedTuple):
    """A TextGrid and the recording beside it, None where there is none."""

    grid: str
    audio: str | None


class TextGrid(NamedSource):
    """Recordings with Praat's TextGrids beside them, as the Montreal Forced Aligner writes them (McAuliffe et al. 2017,
    doi:10.21437/Interspeech.2017-1386; github.com/MontrealCorpusTools/Montreal-Forced-Aligner).

    The words of a tier are the transcript and its word times, by which `interleave` cuts; the phones stand in
    meta["phones"] as [phone, start, end], in seconds.
    """

    folder: str
    """Folder or URL of the recordings."""
    words: str = "words"
    """The tier of the words; with several speakers in one file, as `ann - words`, name theirs."""
    phones: str = "phones"
    """The tier of the phones; a file without it has words alone."""
    silent: tuple[str, ...] = ("", "sil", "sp", "<eps>")
    """Intervals that are no word and no phone."""
    unknown: tuple[str, ...] = ("<unk>", "spn")
    """Intervals of words that the aligner does not know: such an utterance is listed, since its transcript has a gap."""
    voice: int = 0
    """How many steps above the file the folder is whose name is that of the speaker: 1 for SPEAKER/x.wav; 0: none is."""
    sample_rate: int | None = None
    """Hz that the recordings must have; None: any."""
    language: str = ""
    """Code of the language of the documents, for their meta."""
    license: str = ""
    """License of the documents, for their meta."""

    def units(self) -> list[Unit[list[Aligned]]]:
        """Runs of TextGrids. Raises `ConfigError` where there is none."""
        files = files_of(self.folder)
        grids = [name for name in files if name.endswith(SUFFIX)]
        if not grids:
            raise ConfigError(f"{self.folder}: no *{SUFFIX} in it")
        found = []
        for grid in grids:
            stem = grid.removesuffix(SUFFIX)
            audio = next((f"{stem}.{suffix}" for suffix in SPEECH_SUFFIXES if f"{stem}.{suffix}" in files), None)
            found.append((Aligned(grid, audio), files[grid] + files.get(audio or "", 0)))
        return grouped(found)

    def read(self, unit: Unit[list[Aligned]]) -> Documents:
        """One document for each TextGrid."""
        store, source = Store(self.folder), self.source_name(self.folder)
        for one in unit.what:
            grid, audio = Aligned(*one)
            where, stem = store.path(grid), grid.removesuffix(SUFFIX)
            try:
                if audio is None:
                    raise DataError("no recording beside it")
                words, phones = self._tiers(store.read(grid))
            except DataError as problem:
                yield Lost(where, str(problem).removeprefix(f"{where}: "), f"{source}/{stem}")
                continue
            times = tuple((text, start, end) for start, end, text in words)
            meta = {
                "language": self.language,
                "voice": grid.split("/")[-1 - self.voice] if 0 < self.voice < len(grid.split("/")) else "",
                "license": self.license,
                "phones": [[text, start, end] for start, end, text in phones],
            }

            def speech(said: str, audio: str = audio, times=times, last: float = max((one.end for one in words), default=0.0)):
                part = speech_part(store.read(audio), said, times, sample_rate=self.sample_rate)
                if last > part.duration + _TOLERANCE:
                    raise DataError(f"{part.duration:.2f} s of sound, its words end at {last:.2f} s")
                return part

            said = " ".join(text for text, _, _ in times)
            yield spoken(where, speech, said, document_id=f"{source}/{stem}", source=source, meta=meta)

    def _tiers(self, data: bytes) -> tuple[list[Interval], list[Interval]]:
        """Words and phones. Raises `DataError` where there are no words, or a gap between them."""
        tiers = read_textgrid(data)
        if self.words not in tiers:
            raise DataError(f"no tier {self.words!r} (there are {', '.join(map(repr, tiers)) or 'none'})")
        words = [one._replace(text=one.text.strip()) for one in tiers[self.words] if one.text.strip() not in self.silent]
        if gaps := [one for one in words if one.text in self.unknown]:
            raise DataError(f"{gaps[0].text} at {gaps[0].start:.2f} s: a word that the aligner does not know")
        phones = [one._replace(text=one.text.strip()) for one in tiers.get(self.phones, [])]
        return words, [one for one in phones if one.text not in self.silent]
