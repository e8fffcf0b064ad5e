"""Speech of lhotse cuts: JSON lines, also gzipped, with a recording and supervisions in each cut.

    sources: [{kind: lhotse, cuts: cuts.jsonl.gz, audio: corpus/}]

The format is that of lhotse's MonoCut.to_dict(): github.com/lhotse-speech/lhotse.
"""

from typing import Literal

from mmpt.data.lost import Documents, Lost
from mmpt.data.sources.base import SourceSchema, Unit, source_name
from mmpt.data.sources.rows import read_rows, row_units
from mmpt.data.sources.utterances import utterance
from mmpt.data.store import Store
from mmpt.errors import DataError


class LhotseConfig(SourceSchema):
    """`audio` is the folder that the recordings' paths are relative to (or begin with); no path may lead out of it."""

    kind: Literal["lhotse"] = "lhotse"
    cuts: str
    audio: str
    sample_rate: int | None = None
    language: str = ""
    license: str = ""


def units(config: LhotseConfig) -> list[Unit]:
    """Ranges of lines. Raises `ConfigError` where there is no such file."""
    return row_units(config.cuts)


def read(config: LhotseConfig, unit: Unit) -> Documents:
    """One document for each supervision: its stretch of the cut, with word times where there is a word alignment."""
    folder = config.audio.rstrip("/")
    store, source = Store(folder), source_name(config, config.cuts)
    for one in read_rows(config.cuts, unit.what):
        if isinstance(one, Lost):
            yield one
            continue
        where, cut = one
        try:
            audio, supervisions = _recording(cut), cut.get("supervisions")
            if not isinstance(supervisions, list) or not supervisions:
                raise DataError("no supervisions")
        except DataError as problem:
            yield Lost(where, str(problem), f"{source}/{cut.get('id', '')}")
            continue
        for number, supervision in enumerate(supervisions):
            document_id = f"{source}/{cut.get('id', where.rpartition('/')[2])}/{number}"
            try:
                # A supervision's times count from the start of its cut, the cut's from the start of the recording.
                start, duration = float(supervision["start"]), float(supervision["duration"])
                words = tuple(
                    (str(word[0]), float(word[1]) - start, float(word[1]) - start + float(word[2]))
                    for word in (supervision.get("alignment") or {}).get("word", ())
                )
                begin = float(cut.get("start", 0.0)) + start
            except (KeyError, TypeError, ValueError, IndexError) as problem:
                yield Lost(f"{where}, supervision {number}", f"no time of it ({problem})", document_id)
                continue
            meta = {
                "language": supervision.get("language") or config.language,
                "voice": supervision.get("speaker") or "",
                "license": config.license,
            }
            yield utterance(
                store,
                audio.removeprefix(f"{folder}/"),
                supervision.get("text"),
                document_id=document_id,
                source=source,
                meta=meta,
                start=begin,
                duration=duration,
                cut=True,
                sample_rate=config.sample_rate,
                words=words,
            )


def _recording(cut: dict) -> str:
    if cut.get("type", "MonoCut") != "MonoCut":
        raise DataError(f"a cut of type {cut.get('type')!r}, expected MonoCut")
    sources = (cut.get("recording") or {}).get("sources")
    if not isinstance(sources, list) or len(sources) != 1 or sources[0].get("type") != "file":
        raise DataError("expected a recording with one source of type file")
    return str(sources[0].get("source"))
