"""Speech of lhotse manifests: cuts with their supervisions, or recordings and supervisions; JSON lines, also gzipped.

    sources: [{kind: lhotse, cuts: cuts.jsonl.gz, audio: corpus/}]

The format is that of to_dict() of lhotse's MonoCut, Recording and SupervisionSegment: github.com/lhotse-speech/lhotse.
"""

from functools import lru_cache, partial

import pydantic

from mmpt.data.formats.row_range import RowRange
from mmpt.data.formats.rows import MEDIA_BYTES, every_row, read_rows, row_units
from mmpt.data.formats.supervisions import supervised
from mmpt.data.formats.utterances import LongRecordings
from mmpt.data.lost import Documents, Lost
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store
from mmpt.data.unit import Unit
from mmpt.errors import ConfigError, DataError


class Lhotse(NamedSource):
    """Manifests of lhotse: Żelasko et al. 2021, "Lhotse: a speech data representation library" (arXiv:2110.12561).

    Cuts that are mixed, or whose recording lhotse would transform (speed, volume, rate) or take one channel of, are listed:
    save them as audio first (`CutSet.save_audios`).
    """

    cuts: str = ""
    """Cuts with their supervisions; or `recordings` and `supervisions`."""
    recordings: str = ""
    """Recordings that `supervisions` name."""
    supervisions: str = ""
    """What is said in `recordings`."""
    audio: str
    """Folder that the recordings' paths are relative to, or begin with; no path may lead out of it."""
    sample_rate: int | None = None
    """Hz that the recordings must have; None: any."""
    language: str = ""
    """Code of the language of the documents, for their meta, where a supervision says none."""
    license: str = ""
    """License of the documents, for their meta."""

    @pydantic.model_validator(mode="after")
    def _cuts_or_both_others(self) -> "Lhotse":
        if [bool(self.cuts), bool(self.recordings), bool(self.supervisions)] not in ([True, False, False], [False, True, True]):
            raise ValueError("expected either cuts, or recordings and supervisions")
        return self

    def units(self) -> list[Unit[RowRange]]:
        """Ranges of lines. Raises `ConfigError` where there is no such file, or the recordings cannot all be read."""
        if self.recordings:
            _recordings(self.recordings)
        return row_units(self.cuts or self.supervisions, MEDIA_BYTES)

    def read(self, unit: Unit[RowRange]) -> Documents:
        """One document for each supervision: its stretch of the recording, with word times where there is a word alignment."""
        location, folder = self.cuts or self.supervisions, self.audio.rstrip("/")
        source, recordings = self.source_name(location), LongRecordings(Store(folder), self.sample_rate)
        for one in read_rows(location, unit.what):
            if isinstance(one, Lost):
                yield one
                continue
            where, row = one
            cut = row if self.cuts else _as_cut(row, _recordings(self.recordings))
            document_id = f"{source}/{row.get('id', where.rpartition('/')[2])}"
            try:
                audio, supervisions = _recording(cut), cut.get("supervisions")
                if not isinstance(supervisions, list) or not supervisions:
                    raise DataError("no supervisions")
            except DataError as problem:
                yield Lost(where, str(problem), document_id)
                continue
            name = audio.removeprefix(f"{folder}/")
            for number, supervision in enumerate(supervisions):
                yield from supervised(
                    f"{where}, supervision {number}",
                    supervision,
                    cut.get("start", 0.0),
                    partial(recordings.piece, name),
                    document_id=f"{document_id}/{number}",
                    source=source,
                    language=self.language,
                    license=self.license,
                )


@lru_cache(maxsize=4)
def _recordings(location: str) -> dict[str, dict]:
    """Id → recording, read once in each process."""
    found = {}
    try:
        for one in every_row(location):
            if isinstance(one, Lost):
                raise ConfigError(f"{one.item}: {one.reason}")
            found[str(one[1].get("id"))] = one[1]
    except DataError as problem:
        raise ConfigError(str(problem)) from None
    return found


def _as_cut(supervision: dict, recordings: dict[str, dict]) -> dict:
    recording = recordings.get(str(supervision.get("recording_id")))
    return {"channel": supervision.get("channel", 0), "recording": recording, "supervisions": [supervision]}


def _recording(cut: dict) -> str:
    """The path of its file. Raises `DataError` where the cut is something else than a stretch of a file as it is."""
    if cut.get("type", "MonoCut") != "MonoCut":
        raise DataError(f"a cut of type {cut.get('type')!r}, expected MonoCut")
    found = cut.get("recording")
    recording = found if isinstance(found, dict) else {}
    sources = recording.get("sources")
    if not isinstance(sources, list) or len(sources) != 1 or not isinstance(sources[0], dict) or sources[0].get("type") != "file":
        raise DataError("expected a recording with one source of type file")
    if recording.get("transforms"):
        raise DataError(f"a recording that lhotse would transform first ({recording['transforms']})")
    if isinstance(sources[0].get("channels"), list) and len(sources[0]["channels"]) > 1:
        raise DataError(f"one of the channels {sources[0]['channels']} of a recording")
    return str(sources[0].get("source"))
