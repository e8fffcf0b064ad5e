"""Speech of a NeMo manifest: JSON lines with `audio_filepath`, `text`, `duration`, and `offset` for a piece of a long file.

sources: [{kind: nemo, manifest: train_manifest.jsonl, audio: recordings/}]
"""

from mmpt.data.formats.row_range import RowRange
from mmpt.data.formats.rows import MEDIA_BYTES, read_rows, row_id, row_units
from mmpt.data.formats.utterances import utterance
from mmpt.data.lost import Documents, Lost
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store
from mmpt.data.unit import Unit


class Nemo(NamedSource):
    """Speech of a NeMo manifest: Kuchaiev et al. 2019, "NeMo: a toolkit for building AI applications" (arXiv:1909.09577).

    A path in the manifest that begins with the folder `audio` is taken as one in it; no path may lead out of it.
    """

    manifest: str
    """JSON lines, a file whose name ends with .json or .jsonl."""
    audio: str = ""
    """Folder of the recordings; empty: the manifest's own."""
    sample_rate: int | None = None
    """Hz that the recordings must have; None: any."""
    language: str = ""
    """Code of the language of the documents, for their meta, where a row says none in `lang`."""
    license: str = ""
    """License of the documents, for their meta."""

    def units(self) -> list[Unit[RowRange]]:
        """Ranges of lines. Raises `ConfigError` where there is no manifest."""
        return row_units(self.manifest, MEDIA_BYTES)

    def read(self, unit: Unit[RowRange]) -> Documents:
        """One document for each line. One whose duration is not the file's is listed."""
        folder = self.audio.rstrip("/") or self.manifest.rpartition("/")[0] or "."
        store, source = Store(folder), self.source_name(self.manifest)
        for one in read_rows(self.manifest, unit.what):
            if isinstance(one, Lost):
                yield one
                continue
            where, row = one
            audio, duration, offset = row.get("audio_filepath"), row.get("duration"), row.get("offset")
            if not isinstance(audio, str) or not all(map(_number_or_none, (duration, offset))):
                yield Lost(where, "audio_filepath must be text, duration and offset numbers")
                continue
            if offset is not None and duration is None:
                yield Lost(where, "an offset without a duration")
                continue
            meta = {
                "language": str(row.get("lang") or self.language),
                "voice": str(row.get("speaker") or ""),
                "license": self.license,
            }
            yield utterance(
                store,
                audio.removeprefix(f"{folder}/"),
                row.get("text"),
                document_id=row_id(source, self.manifest, where),
                source=source,
                meta=meta,
                start=float(offset or 0.0),
                duration=duration,
                cut=offset is not None,
                sample_rate=self.sample_rate,
            )


def _number_or_none(value: object) -> bool:
    return value is None or isinstance(value, int | float) and not isinstance(value, bool)
