"""Speech of a NeMo manifest: JSON lines with `audio_filepath`, `text`, `duration`, and `offset` for a piece of a long file.

sources: [{kind: nemo, manifest: train_manifest.jsonl, audio: recordings/}]
"""

from typing import Literal

from mmpt.data.lost import Documents, Lost
from mmpt.data.sources.base import SourceSchema, Unit, source_name
from mmpt.data.sources.rows import MEDIA_BYTES, read_rows, row_id, row_units
from mmpt.data.sources.utterances import utterance
from mmpt.data.store import Store


class NemoConfig(SourceSchema):
    """`manifest` ends with .json or .jsonl; `audio` is the folder of the recordings, by default the manifest's own.

    A path in the manifest that begins with that folder is taken as one in it; no path may lead out of it.
    """

    kind: Literal["nemo"] = "nemo"
    manifest: str
    audio: str = ""
    sample_rate: int | None = None
    language: str = ""
    license: str = ""


def units(config: NemoConfig) -> list[Unit]:
    """Ranges of lines. Raises `ConfigError` where there is no manifest."""
    return row_units(config.manifest, MEDIA_BYTES)


def read(config: NemoConfig, unit: Unit) -> Documents:
    """One document for each line. One whose duration is not the file's is listed."""
    folder = config.audio.rstrip("/") or config.manifest.rpartition("/")[0] or "."
    store, source = Store(folder), source_name(config, config.manifest)
    for one in read_rows(config.manifest, unit.what):
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
            "language": str(row.get("lang") or config.language),
            "voice": str(row.get("speaker") or ""),
            "license": config.license,
        }
        yield utterance(
            store,
            audio.removeprefix(f"{folder}/"),
            row.get("text"),
            document_id=row_id(source, config.manifest, where),
            source=source,
            meta=meta,
            start=float(offset or 0.0),
            duration=duration,
            cut=offset is not None,
            sample_rate=config.sample_rate,
        )


def _number_or_none(value: object) -> bool:
    return value is None or isinstance(value, int | float) and not isinstance(value, bool)
