"""Documents from a folder of short recordings whose file names say what is spoken, joined to longer strings."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from mmpt.config import Schema
from mmpt.data.sources.paths import existing_folder
from mmpt.document import Document, Speech, Text
from mmpt.errors import ConfigError, DataError
from mmpt.media import decode_speech, encode_flac

SAMPLE_RATE = 16_000
_FIELDS = {"label": r"(?P<label>[^_/]+)", "speaker": r"(?P<speaker>[^_/]+)", "index": r"(?P<index>\d+)"}


class RecordingsConfig(Schema):
    """`count` strings, each of 1 to `longest` recordings of one speaker with `silence` seconds (from, to) between them.

    `pattern` is the form of a file name with `{label}`, `{speaker}` and `{index}`; `words` maps a label to what is said; only
    recordings whose index lies in `indices` (first, last) are used, which is how training and test are kept apart.
    """

    kind: Literal["recordings"]
    folder: Path
    count: int
    indices: tuple[int, int]
    pattern: str = "{label}_{speaker}_{index}.wav"
    words: dict[str, str] = {}
    longest: int = 5
    silence: tuple[float, float] = (0.03, 0.12)
    language: str = "en"
    license: str = ""
    seed: int = 0


def recordings(config: RecordingsConfig) -> Iterator[Document]:
    """One document for each string: (speech, text). Each recording is used about equally often."""
    by_speaker = _recordings_by_speaker(config)
    speakers = sorted(by_speaker)
    random = np.random.default_rng(config.seed)
    decoded: dict[Path, np.ndarray] = {}
    queues: dict[str, list[tuple[str, Path]]] = {speaker: [] for speaker in speakers}
    for number in range(config.count):
        speaker = speakers[number % len(speakers)]
        pieces, words, position = [], [], 0
        for place in range(int(random.integers(1, config.longest + 1))):
            if not queues[speaker]:
                queues[speaker] = [by_speaker[speaker][i] for i in random.permutation(len(by_speaker[speaker]))]
            label, path = queues[speaker].pop()
            if path not in decoded:
                decoded[path] = _decode(path)
            if place:
                pieces.append(np.zeros(int(random.uniform(*config.silence) * SAMPLE_RATE), dtype=np.float32))
                position += len(pieces[-1])
            pieces.append(decoded[path])
            end = position + len(pieces[-1])
            words.append((config.words.get(label, label), position / SAMPLE_RATE, end / SAMPLE_RATE))
            position = end
        text = " ".join(word for word, _, _ in words)
        samples = np.concatenate(pieces)
        speech = Speech(encode_flac(samples, SAMPLE_RATE), "flac", SAMPLE_RATE, len(samples) / SAMPLE_RATE, text, tuple(words))
        meta = {"language": config.language, "voice": speaker, "license": config.license}
        yield Document(f"{config.indices[0]}-{config.indices[1]}-{number:06d}", config.folder.name, (speech, Text(text)), meta)


def _recordings_by_speaker(config: RecordingsConfig) -> dict[str, list[tuple[str, Path]]]:
    unknown = set(re.findall(r"\{(\w*)\}", config.pattern)) ^ set(_FIELDS)
    if unknown:
        raise ConfigError(f"pattern {config.pattern!r}: expected exactly {{label}}, {{speaker}} and {{index}}")
    pieces = re.split(r"\{(\w+)\}", config.pattern)
    expression = re.compile("".join(_FIELDS[piece] if i % 2 else re.escape(piece) for i, piece in enumerate(pieces)))
    found = defaultdict(list)
    for path in sorted(existing_folder(config.folder).iterdir()):
        match = expression.fullmatch(path.name)
        if match and config.indices[0] <= int(match["index"]) <= config.indices[1]:
            found[match["speaker"]].append((match["label"], path))
    if not found:
        raise DataError(f"{config.folder}: no file named like {config.pattern!r} with an index in {list(config.indices)}")
    return found


def _decode(path: Path) -> np.ndarray:
    try:
        return decode_speech(path.read_bytes(), SAMPLE_RATE)
    except DataError as problem:
        raise DataError(f"{path}: {problem}") from None
