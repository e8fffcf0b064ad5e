"""Speech of NeMo's tarred sets: audio_0.tar beside manifests whose rows name its members.

sources: [{kind: nemo_tarred, folder: tarred_fleurs/}]
"""

import re
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

from mmpt.data.formats.rows import every_row
from mmpt.data.formats.tars import Sample, read_samples
from mmpt.data.formats.utterances import as_long_as, spoken
from mmpt.data.lost import Documents, Lost
from mmpt.data.parts import opened, piece_of, speech_part
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store, files_of
from mmpt.data.unit import Unit
from mmpt.document import Document, Speech
from mmpt.errors import ConfigError, DataError
from mmpt.media import Sound

_TAR = re.compile(r"(.*/)?audio[^/]*_(?P<number>\d+)[^/]*\.tar")
_MANIFEST = re.compile(r"(.*/)?manifest[^/]*_(?P<number>\d+)[^/]*\.jsonl?(\.gz)?")
_PIECE = re.compile(r"(?P<stem>.+)-sub\d+(?P<suffix>\.\w+)?")


class Shard(NamedTuple):
    """A tar, its number, and the manifest of its own, None where one manifest is that of all."""

    tar: str
    number: int
    manifest: str | None


class NemoTarred(NamedSource):
    """A tarred set of NeMo (Kuchaiev et al. 2019, arXiv:1909.09577), as NVIDIA/NeMo's convert_to_tarred_audio_dataset writes it:
    tars named audio_0.tar, with manifests manifest_0.json of their own or one whose rows have a `shard_id`."""

    folder: str
    """Folder or URL of the tars and, below it or in it, their manifests."""
    manifest: str = "tarred_audio_manifest.json"
    """Name in the folder of the manifest of all tars, where they have none of their own."""
    sample_rate: int | None = None
    """Hz that the recordings must have; None: any."""
    language: str = ""
    """Code of the language of the documents, for their meta, where a row says none in `lang`."""
    license: str = ""
    """License of the documents, for their meta."""

    def units(self) -> list[Unit[Shard]]:
        """One for each tar. Raises `ConfigError` where there is none, or one without a manifest."""
        files = files_of(self.folder)
        own = {int(match["number"]): name for name in files if (match := _MANIFEST.fullmatch(name))}
        tars = {name: int(match["number"]) for name in files if (match := _TAR.fullmatch(name))}
        if not tars:
            raise ConfigError(f"{self.folder}: no audio_0.tar or the like in it")
        lacking = [name for name, number in tars.items() if number not in own]
        if lacking and self.manifest not in files:
            raise ConfigError(f"{self.folder}: no manifest_{tars[lacking[0]]}.json for {lacking[0]}, and no {self.manifest}")
        ordered = sorted(tars.items(), key=lambda one: (one[1], one[0]))
        return [Unit(Shard(name, number, own.get(number)), files[name]) for name, number in ordered]

    def read(self, unit: Unit[Shard]) -> Documents:
        """One document for each row, in the order of the tar; a row without its member and a member without a row are listed."""
        tar, number, manifest = Shard(*unit.what)
        store, source = Store(self.folder), self.source_name(self.folder)
        rows: dict[str, list[tuple[str, dict]]] = {}
        for one in every_row(store.path(manifest or self.manifest)):
            if isinstance(one, Lost):
                yield one
                continue
            where, row = one
            if manifest is None and row.get("shard_id") != number:
                continue
            if not isinstance(row.get("audio_filepath"), str):
                yield Lost(where, "audio_filepath must be text")
                continue
            rows.setdefault(_member(row["audio_filepath"]), []).append((where, row))
        for sample in read_samples(store, tar, key=lambda name: name):
            if isinstance(sample, Lost):
                yield sample
                continue
            if sample.key not in rows:
                yield Lost(f"{store.path(tar)}: {sample.key}", f"no row of it in {manifest or self.manifest}")
                continue
            sound = cache(partial(self._opened, sample))  # decoded once for all its pieces
            for where, row in rows.pop(sample.key):
                yield self._document(where, row, sample, sound, source)
        for found in rows.values():
            yield from (Lost(where, f"not in {tar}", f"{source}/{row['audio_filepath']}") for where, row in found)

    def _opened(self, sample: Sample) -> Sound:
        return opened(sample.members[""], self.sample_rate)

    def _document(self, where: str, row: dict, sample: Sample, sound: Callable[[], Sound], source: str) -> Document | Lost:
        offset, duration = row.get("offset"), row.get("duration")
        document_id = f"{source}/{row['audio_filepath']}"

        def speech(said: str) -> Speech:
            if sample.problem or "" not in sample.members:
                raise DataError(sample.problem or "no file of that name")
            if not all(one is None or isinstance(one, int | float) and not isinstance(one, bool) for one in (offset, duration)):
                raise DataError("duration and offset must be numbers")
            if offset is not None and duration is not None:
                return piece_of(sound(), float(offset), float(duration), said)
            return as_long_as(speech_part(sample.members[""], said, sample_rate=self.sample_rate), duration)

        meta = {
            "language": str(row.get("lang") or self.language),
            "voice": str(row.get("speaker") or ""),
            "license": self.license,
        }
        return spoken(where, speech, row.get("text"), document_id=document_id, source=source, meta=meta)


def _member(name: str) -> str:
    """The member of the tar that a row means: several pieces of one recording are named NAME-sub1.wav, NAME-sub2.wav."""
    match = _PIECE.fullmatch(name)
    return f"{match['stem']}{match['suffix'] or ''}" if match else name
