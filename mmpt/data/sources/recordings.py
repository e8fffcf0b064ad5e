"""Documents from a folder of short recordings whose file names say what is spoken, joined to longer strings.

sources: [{kind: recordings, folder: spoken_digits/recordings, indices: [5, 49], count: 1000, words: {"0": zero}}]
"""

import re
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import pydantic

from mmpt.data.lost import Documents, Lost
from mmpt.data.parts import speech_part
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store, files_of
from mmpt.data.unit import Unit, grouped
from mmpt.document import Document, Speech, Text
from mmpt.errors import ConfigError, DataError
from mmpt.media import decode_speech, encode_flac
from mmpt.modality import SAMPLE_RATE

UNIT = 250
"""Strings of a unit."""
_FIELDS = {"label": r"(?P<label>[^_/]+)", "speaker": r"(?P<speaker>[^_/]+)", "index": r"(?P<index>\d+)"}


class Recordings(NamedSource):
    """Short recordings whose names say what is spoken, joined to longer strings, as those of the Free Spoken Digit Dataset
    (github.com/Jakobovski/free-spoken-digit-dataset) are; own."""

    folder: str
    """Folder of the recordings, a path or a URL."""
    count: int | None = pydantic.Field(default=None, ge=1)
    """How many strings are made; None: every recording comes once, as it is."""
    indices: tuple[int, int]
    """(first, last) of the recordings that are used, by the index in their names: so training and test are kept apart."""
    pattern: str = "{label}_{speaker}_{index}.wav"
    """Form of a file's name with `{label}`, `{speaker}` and `{index}`."""
    words: dict[str, str] = {}
    """What is said by label; a label that is not there says itself."""
    speakers: tuple[str, ...] = ()
    """Only theirs are used; empty: all."""
    shortest: int = pydantic.Field(default=1, ge=1)
    """Recordings in a string at least."""
    longest: int = 5
    """Recordings in a string at most."""
    silence: tuple[float, float] = (0.03, 0.12)
    """Seconds (from, to) between two recordings of a string, drawn anew each time."""
    language: str = "en"
    """Code of the language of the documents, for their meta."""
    license: str = ""
    """License of the documents, for their meta."""
    seed: int = 0
    """What the strings are drawn with."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> "Recordings":
        if self.longest < self.shortest:
            raise ValueError(f"longest {self.longest} is less than shortest {self.shortest}")
        return self

    def units(self) -> list[Unit[list[str]]] | list[Unit[tuple[int, int]]]:
        """Runs of strings: (first, one past the last); without a `count`, runs of file names.

        Raises `ConfigError` where there is no such folder or file, or the pattern is none.
        """
        sizes = _files(self)
        found = _recordings_by_speaker(self, sizes)
        if self.count is None:
            return grouped((name, sizes[name]) for name in sorted(name for own in found.values() for _, name in own))
        size = sum(sizes[name] for recordings in found.values() for _, name in recordings)
        each = 2 * size * self.longest // sum(map(len, found.values()))
        edges = [*range(0, self.count, UNIT), self.count]
        return [Unit((first, last), (last - first) * each) for first, last in zip(edges, edges[1:], strict=False)]

    def read(self, unit: Unit[list[str]] | Unit[tuple[int, int]]) -> Documents:
        """One document for each string, or each recording: (speech, text). A recording that cannot be decoded is listed."""
        if isinstance(unit.what, list):
            yield from _single(self, unit.what)
        else:
            yield from _strings(self, *unit.what)


def _single(config: Recordings, names: list[str]) -> Documents:
    labels = {
        file: (config.words.get(label, label), speaker)
        for speaker, recordings in _recordings_by_speaker(config, names).items()
        for label, file in recordings
    }
    store, source = Store(config.folder), config.source_name(config.folder)
    for name in names:
        text, speaker = labels[name]
        try:
            speech = speech_part(store.read(name), text)
        except DataError as problem:
            yield Lost(
                store.path(name), str(problem).removeprefix(f"{store.path(name)}: "), f"{source}/{name.rpartition('.')[0]}"
            )
            continue
        meta = {"language": config.language, "voice": speaker, "license": config.license}
        yield Document(f"{source}/{name.rpartition('.')[0]}", source, (speech, Text(text)), meta)


def _strings(config: Recordings, first: int, last: int) -> Documents:
    """Within a run, each recording is used about equally often."""
    by_speaker = _recordings_by_speaker(config, _files(config))
    speakers = sorted(by_speaker)
    store, source = Store(config.folder), config.source_name(config.folder)
    random = np.random.default_rng((config.seed, first))
    decoded: dict[str, np.ndarray | str] = {}
    queues: dict[str, list[tuple[str, str]]] = {speaker: [] for speaker in speakers}
    for number in range(first, last):
        name = f"{source}/{config.indices[0]}-{config.indices[1]}-{number:06d}"
        speaker = speakers[number % len(speakers)]
        pieces, words, position, bad = [], [], 0, None
        for place in range(int(random.integers(config.shortest, config.longest + 1))):
            if not queues[speaker]:  # all were used: once more, in another order
                queues[speaker] = [by_speaker[speaker][i] for i in random.permutation(len(by_speaker[speaker]))]
            label, file = queues[speaker].pop()
            if file not in decoded:
                decoded[file] = _decode(store, file)
            silence = int(random.uniform(*config.silence) * SAMPLE_RATE) if place else 0
            samples = decoded[file]
            if isinstance(samples, str):
                bad = bad or Lost(store.path(file), samples, name)
                continue
            pieces.append(np.zeros(silence, dtype=np.float32))
            position += silence
            pieces.append(samples)
            end = position + len(samples)
            words.append((config.words.get(label, label), position / SAMPLE_RATE, end / SAMPLE_RATE))
            position = end
        if bad:
            yield bad
            continue
        text = " ".join(word for word, _, _ in words)
        samples = np.concatenate(pieces)
        speech = Speech(encode_flac(samples, SAMPLE_RATE), "flac", SAMPLE_RATE, len(samples) / SAMPLE_RATE, text, tuple(words))
        meta = {"language": config.language, "voice": speaker, "license": config.license}
        yield Document(name, source, (speech, Text(text)), meta)


def _files(config: Recordings) -> dict[str, int]:
    return files_of(config.folder)


def _recordings_by_speaker(config: Recordings, files: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    unknown = set(re.findall(r"\{(\w*)\}", config.pattern)) ^ set(_FIELDS)
    if unknown:
        raise ConfigError(f"pattern {config.pattern!r}: expected exactly {{label}}, {{speaker}} and {{index}}")
    pieces = re.split(r"\{(\w+)\}", config.pattern)
    expression = re.compile("".join(_FIELDS[piece] if i % 2 else re.escape(piece) for i, piece in enumerate(pieces)))
    found = defaultdict(list)
    for name in sorted(files):
        match = expression.fullmatch(name)
        if not match or (config.speakers and match["speaker"] not in config.speakers):
            continue
        if config.indices[0] <= int(match["index"]) <= config.indices[1]:
            found[match["speaker"]].append((match["label"], name))
    missing = [speaker for speaker in config.speakers if speaker not in found]
    if not found or missing:
        of = f" of {', '.join(missing)}" if missing else ""
        raise ConfigError(f"{config.folder}: no file{of} named like {config.pattern!r} with an index in {list(config.indices)}")
    return found


def _decode(store: Store, name: str) -> np.ndarray | str:
    """Samples at `SAMPLE_RATE`, or why there are none."""
    try:
        return decode_speech(store.read(name), SAMPLE_RATE)
    except DataError as problem:
        return str(problem).removeprefix(f"{store.path(name)}: ")
