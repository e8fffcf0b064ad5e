"""Read speech in LibriSpeech's layout: SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt beside SPEAKER-CHAPTER-NUMBER.flac.

sources: [{kind: librispeech, folder: LibriSpeech/train-clean-100}]
"""

from typing import Literal

from mmpt.data.lost import Documents, Lost
from mmpt.data.sources.base import SourceSchema, Unit, grouped, source_name
from mmpt.data.sources.utterances import utterance
from mmpt.data.store import Store
from mmpt.errors import ConfigError, DataError

_TRANSCRIPT = ".trans.txt"


class LibriSpeechConfig(SourceSchema):
    """One split, or several below `folder`. `lowercase` turns the capitals of the transcripts into small letters."""

    kind: Literal["librispeech"] = "librispeech"
    folder: str
    lowercase: bool = True
    sample_rate: int | None = None
    language: str = "en"
    license: str = "CC-BY-4.0"


def units(config: LibriSpeechConfig) -> list[Unit]:
    """Runs of chapters: [transcript or None, names of its audio files]. Raises `ConfigError` where there is none."""
    try:
        files = Store(config.folder).files()
    except DataError as problem:
        raise ConfigError(str(problem)) from None
    audio: dict[str, dict[str, int]] = {}
    for name, size in files.items():
        if name.endswith(".flac"):
            audio.setdefault(name.rpartition("/")[0], {})[name] = size
    chapters = [name for name in files if name.endswith(_TRANSCRIPT)]
    if not chapters:
        raise ConfigError(f"{config.folder}: no *{_TRANSCRIPT} in it")
    found = [(name, audio.pop(name.rpartition("/")[0], {})) for name in chapters]
    found += [(None, sizes) for sizes in audio.values()]
    return grouped(([name, list(sizes)], sum(sizes.values())) for name, sizes in found)


def read(config: LibriSpeechConfig, unit: Unit) -> Documents:
    """One document for each line; a line without its audio and audio without its line are listed."""
    store, source = Store(config.folder), source_name(config, config.folder)
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
            meta = {"language": config.language, "voice": key.partition("-")[0], "license": config.license}
            yield utterance(
                store,
                name,
                text.lower() if config.lowercase else text,
                document_id=f"{source}/{key}",
                source=source,
                meta=meta,
                sample_rate=config.sample_rate,
            )
        for name in sorted(left):
            yield Lost(store.path(name), f"no line in {transcript}")
