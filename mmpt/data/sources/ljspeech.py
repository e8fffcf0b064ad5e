"""Speech in LJSpeech's layout: metadata.csv with ID|TEXT|NORMALIZED beside wavs/ID.wav.

sources: [{kind: ljspeech, folder: LJSpeech-1.1}]
"""

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
    """Runs of lines: [number, line]. Raises `ConfigError` where the table is missing or no UTF-8."""
    store = Store(config.folder)
    try:
        lines = store.read(METADATA).decode("utf-8-sig").splitlines()
        sizes = store.files()
    except (DataError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{store.path(METADATA)}: {problem}") from None
    return grouped(
        ([number, line], sizes.get(f"wavs/{line.partition('|')[0]}.wav", 0))
        for number, line in enumerate(lines, start=1)
        if line.strip()
    )


def read(config: LJSpeechConfig, unit: Unit) -> Documents:
    """One document for each line."""
    store, source = Store(config.folder), source_name(config, config.folder)
    for number, line in unit.what:
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
