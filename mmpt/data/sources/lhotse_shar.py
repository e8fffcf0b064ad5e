"""Speech of a lhotse Shar folder: cuts.000000.jsonl.gz beside recording.000000.tar, and so on.

sources: [{kind: lhotse_shar, folder: shar/}]
"""

import re
from functools import partial
from typing import NamedTuple

from mmpt.data.formats.rows import every_row
from mmpt.data.formats.supervisions import supervised
from mmpt.data.formats.tars import Sample, read_samples
from mmpt.data.lost import Documents, Lost
from mmpt.data.parts import opened, piece_of
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store, files_of
from mmpt.data.unit import Unit
from mmpt.errors import ConfigError, DataError

_CUTS = re.compile(r"(?P<folder>(.*/)?)cuts\.(?P<number>\d+)\.jsonl(\.gz)?")


class Shard(NamedTuple):
    """Names of the cuts and of the tar with their recordings, None where there is none."""

    cuts: str
    recordings: str | None


class LhotseShar(NamedSource):
    """Shar, the form of lhotse (Żelasko et al. 2021, arXiv:2110.12561) in which cuts lie beside tars of their recordings, to
    be read from one end to the other (lhotse.readthedocs.io/en/latest/datasets.html)."""

    folder: str
    """Folder or URL of the shards."""
    words: bool = False
    """Whether word alignments are kept. lhotse writes them as they were in the recording that a cut was taken from, and no longer
    says where it began in there: they are right where cuts are whole recordings."""
    sample_rate: int | None = None
    """Hz that the recordings must have; None: any."""
    language: str = ""
    """Code of the language of the documents, for their meta, where a supervision says none."""
    license: str = ""
    """License of the documents, for their meta."""

    def units(self) -> list[Unit[Shard]]:
        """One for each shard. Raises `ConfigError` where there is none."""
        files = files_of(self.folder)
        found = []
        for name in files:
            if match := _CUTS.fullmatch(name):
                tar = f"{match['folder']}recording.{match['number']}.tar"
                found.append(Unit(Shard(name, tar if tar in files else None), files[name] + files.get(tar, 0)))
        if not found:
            raise ConfigError(f"{self.folder}: no cuts.000000.jsonl.gz or the like in it")
        return found

    def read(self, unit: Unit[Shard]) -> Documents:
        """One document for each supervision. A cut without its recording and a recording without its cut are listed."""
        names, source, store = Shard(*unit.what), self.source_name(self.folder), Store(self.folder)
        if names.recordings is None:
            yield Lost(store.path(names.cuts), "no recording.*.tar of its number beside it")
            return
        samples: dict[str, Sample] = {}
        for sample in read_samples(store, names.recordings, key=_stem):
            if isinstance(sample, Lost):
                yield sample
            else:
                samples[sample.key] = sample
        for one in every_row(store.path(names.cuts)):
            if isinstance(one, Lost):
                yield one
                continue
            where, cut = one
            name = str(cut.get("id"))
            document_id = f"{source}/{name}"
            try:
                sound = opened(_recording(cut, samples.pop(name, None)), self.sample_rate)
                supervisions = cut.get("supervisions")
                if not isinstance(supervisions, list) or not supervisions:
                    raise DataError("no supervisions")
            except DataError as problem:
                yield Lost(where, str(problem), document_id)
                continue
            for number, supervision in enumerate(supervisions):
                yield from supervised(
                    f"{where}, supervision {number}",
                    supervision,
                    cut.get("start", 0.0),
                    partial(piece_of, sound),
                    document_id=f"{document_id}/{number}",
                    source=source,
                    language=self.language,
                    license=self.license,
                    aligned=self.words,
                )
        for name in samples:
            yield Lost(f"{store.path(names.recordings)}: {name}", f"no cut of that id in {names.cuts}, or a second one")


def _recording(cut: dict, sample: Sample | None) -> bytes:
    """The encoded recording of a cut. Raises `DataError`."""
    if cut.get("type", "MonoCut") != "MonoCut":
        raise DataError(f"a cut of type {cut.get('type')!r}, expected MonoCut")
    if sample is None:
        raise DataError("no recording of its id in the tar")
    if sample.problem:
        raise DataError(sample.problem)
    recording = cut.get("recording")
    channels = recording.get("channel_ids") if isinstance(recording, dict) else None
    if isinstance(channels, list) and len(channels) > 1:
        raise DataError(f"one of the channels {channels} of a recording")
    found = [data for suffix, data in sample.members.items() if suffix not in ("json", "nodata", "nometa")]
    if len(found) != 1:
        raise DataError("no recording in its place in the tar")
    return found[0]


def _stem(name: str) -> str:
    """The cut's id, in which dots may be."""
    return name.rpartition(".")[0]
