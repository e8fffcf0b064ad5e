"""Speech in LJSpeech's layout: metadata.csv with ID|TEXT|NORMALIZED beside wavs/ID.wav.

sources: [{kind: ljspeech, folder: LJSpeech-1.1}]
"""

import codecs
from typing import Literal

from mmpt.data.lost import Documents, Lost
from mmpt.data.sources.base import SourceSchema, Unit, grouped, source_name
from mmpt.data.sources.utterances import utterance
from mmpt.data.store import Store
from mmpt.errors import ConfigError, DataError

METADATA = "metadata.csv"


class LJSpeechConfig(SourceSchema):
    """`normalized`: the transcript with numbers and abbreviations written out (the third field), else the original."""

    kind: Literal["ljspeech"] = "ljspeech"
    folder: str
    normalized: bool = True
    voice: str = ""
    sample_rate: int | None = None
    language: str = "en"
    license: str = ""


def units(config: LJSpeechConfig) -> list[Unit]:
    """Runs of lines: [number, line, or None where it is no UTF-8]. Raises `ConfigError` where the table is missing."""
    store = Store(config.folder)
    try:
        lines = [_decoded(line) for line in store.read(METADATA).removeprefix(codecs.BOM_UTF8).split(b"\n")]
        sizes = store.files()
    except DataError as problem:
        raise ConfigError(str(problem)) from None
    return grouped(
        ([number, line], sizes.get(f"wavs/{(line or '').partition('|')[0]}.wav", 0))
        for number, line in enumerate(lines, start=1)
        if line is None or line.strip()
    )


def read(config: LJSpeechConfig, unit: Unit) -> Documents:
    """One document for each line."""
    store, source = Store(config.folder), source_name(config, config.folder)
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
            fields[-1] if config.normalized else fields[1],
            document_id=f"{source}/{fields[0]}",
            source=source,
            meta={"language": config.language, "voice": config.voice, "license": config.license},
            sample_rate=config.sample_rate,
        )


def _decoded(line: bytes) -> str | None:
    try:
        return line.decode("utf-8").rstrip("\r")
    except UnicodeDecodeError:
        return None
