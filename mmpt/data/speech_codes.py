"""Folders or shards of speech to lines of codes, and lines of codes to audio files; stopped at any moment, the same call goes on.

A line of `codes.jsonl`: {"id": …, "seconds": …, "codes": […]}. What could not be read is in `lost.jsonl`.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
from rich.progress import Progress

from mmpt.data.lost import LOST_FILE, Lost, from_lines, to_lines
from mmpt.data.shards.manifest import MANIFEST
from mmpt.data.shards.read import DocumentShards
from mmpt.data.store import Store
from mmpt.document import Speech
from mmpt.errors import ConfigError, DataError
from mmpt.media import decode_speech, encode_flac
from mmpt.storage import write_bytes
from mmpt.tokenizers.speech.coder import SpeechCoder
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer

CODES_FILE = "codes.jsonl"
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
_TOGETHER = 600.0  # seconds of audio that are encoded, and written, together


@dataclass(frozen=True)
class Speed:
    """`seconds` of speech in `items`, done in `wall` seconds; `lost` could not be read, `skipped` were done before."""

    items: int
    seconds: float
    wall: float
    lost: int
    skipped: int

    @property
    def real_time_factor(self) -> float:
        """Wall seconds for a second of speech."""
        return self.wall / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        return (
            f"{self.items} utterances, {self.seconds / 60:.1f} minutes of speech in {self.wall:.1f} s (real-time factor "
            f"{self.real_time_factor:.4f}); {self.lost} lost, {self.skipped} done before"
        )


def encode_speech(tokenizer: SpeechCoder, source: Path | str, out: Path, progress: Progress) -> Speed:
    """Codes of every audio file of the folder `source`, or of every utterance of the document shards there, in `out`.

    The id of a file is its name in the folder, that of an utterance "DOCUMENT/PART". Raises `ConfigError` where there is nothing
    to encode, `DataError` where what is in `out` cannot be gone on from.
    """
    items, total = _sounds(source)
    out.mkdir(parents=True, exist_ok=True)
    done = {line["id"] for line in read_codes(out / CODES_FILE)} if _cut_last_line(out / CODES_FILE) else set()
    known_lost = {one.item for one in from_lines((out / LOST_FILE).read_bytes())} if _cut_last_line(out / LOST_FILE) else set()
    task = progress.add_task("encoding", total=total, completed=len(done) + len(known_lost))
    new = ((name, load) for name, load in items if name not in done and name not in known_lost)
    began, seconds, count, lost = time.perf_counter(), 0.0, 0, 0
    for batch in _batches(new, tokenizer.sample_rate):
        sounds = [(name, samples) for name, samples in batch if not isinstance(samples, Lost)]
        codes = tokenizer.encode([samples for _, samples in sounds])
        lines = [
            {"id": name, "seconds": len(samples) / tokenizer.sample_rate, "codes": row.tolist()}
            for (name, samples), row in zip(sounds, codes, strict=True)
        ]
        _append(out / CODES_FILE, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        _append(out / LOST_FILE, to_lines(samples for _, samples in batch if isinstance(samples, Lost)))
        count, lost = count + len(sounds), lost + len(batch) - len(sounds)
        seconds += sum(line["seconds"] for line in lines)
        factor = (time.perf_counter() - began) / max(seconds, 1e-9)
        progress.update(task, advance=len(batch), description=f"encoding: real-time factor {factor:.4f}")
    return Speed(count, seconds, time.perf_counter() - began, lost, len(done) + len(known_lost))


def decode_codes(
    tokenizer: SpeechTokenizer, source: Path, out: Path, progress: Progress, voice: np.ndarray | None = None
) -> Speed:
    """A FLAC file in `out` for each line of the codes file `source` (or of `source`/codes.jsonl), named by its id, spoken in
    `voice` or the tokenizer's default one. Raises `DataError` naming a line that holds no codes of this tokenizer."""
    lines = list(read_codes(source / CODES_FILE if source.is_dir() else source))
    targets = [out / _file_name(line["id"]) for line in lines]
    left = [(line, target) for line, target in zip(lines, targets, strict=True) if not target.exists()]
    task = progress.add_task("decoding", total=len(lines), completed=len(lines) - len(left))
    began, seconds, stream = time.perf_counter(), 0.0, iter(left)
    while batch := list(islice(stream, 64)):
        try:
            sounds = tokenizer.decode([np.array(line["codes"]) for line, _ in batch], voice)
        except DataError as problem:
            names = ", ".join(line["id"] for line, _ in batch[:3])
            raise DataError(f"{source}: among {names}, …: {problem}") from None
        for (_, target), samples in zip(batch, sounds, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(target, encode_flac(samples, tokenizer.sample_rate))
            seconds += len(samples) / tokenizer.sample_rate
        factor = (time.perf_counter() - began) / seconds
        progress.update(task, advance=len(batch), description=f"decoding: real-time factor {factor:.4f}")
    return Speed(len(left), seconds, time.perf_counter() - began, 0, len(lines) - len(left))


def read_codes(path: Path) -> Iterator[dict]:
    """The lines of a codes file. Raises `DataError` naming a line that is none."""
    try:
        file = open(path, encoding="utf-8")  # noqa: SIM115 (closed below; the error is of opening alone)
    except OSError as problem:
        raise DataError(f"{path}: {problem.strerror or problem}") from None
    with file:
        for number, text in enumerate(file, 1):
            try:
                line = json.loads(text)
                if not isinstance(line["id"], str) or not all(isinstance(code, int) for code in line["codes"]):
                    raise ValueError("expected an id and codes")
            except (ValueError, KeyError, TypeError) as problem:
                raise DataError(f"{path}, line {number}: no line of codes ({problem})") from None
            yield line


def _sounds(source: Path | str) -> tuple[Iterable[tuple[str, object]], int | None]:
    """(id, what gives its bytes) of everything to be encoded, and how many."""
    store = Store(source)
    try:
        names = [name for name in store.files() if name.lower().endswith((*SUFFIXES, MANIFEST))]
    except DataError as problem:
        raise ConfigError(str(problem)) from None
    if MANIFEST in names:
        return _utterances(DocumentShards(source)), None
    files = [name for name in names if name.lower().endswith(SUFFIXES)]
    if not files:
        raise ConfigError(f"{source}: neither document shards nor a file of audio ({', '.join(SUFFIXES)})")
    return ((name, lambda name=name: store.read(name)) for name in files), len(files)


def _utterances(shards: DocumentShards) -> Iterator[tuple[str, object]]:
    for number in range(len(shards)):
        try:
            document = shards[number]
        except DataError as problem:
            reason = str(problem)
            yield f"document {number}", lambda reason=reason: _refuse(reason)
            continue
        for place, part in enumerate(document.parts):
            if isinstance(part, Speech):
                yield f"{document.id}/{place}", lambda part=part: part.data


def _refuse(reason: str) -> bytes:
    raise DataError(reason)


def _batches(items: Iterable[tuple[str, object]], rate: int) -> Iterator[list[tuple[str, np.ndarray | Lost]]]:
    """Decoded sounds, as many together as make about `_TOGETHER` seconds."""
    batch, seconds = [], 0.0
    for name, load in items:
        try:
            samples = decode_speech(load(), rate)
            seconds += len(samples) / rate
            batch.append((name, samples))
        except DataError as problem:
            batch.append((name, Lost(name, str(problem))))
        if seconds >= _TOGETHER or len(batch) >= 4096:
            yield batch
            batch, seconds = [], 0.0
    if batch:
        yield batch


def _append(path: Path, data: bytes) -> None:
    if data:
        with open(path, "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def _cut_last_line(path: Path) -> bool:
    """Drop a last line that was cut short. Returns whether the file is there."""
    if not path.exists():
        return False
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        write_bytes(path, whole)
    return True


def _file_name(name: str) -> str:
    """`a/b.wav` → `a/b.flac`. Raises `DataError` where it would lead out of the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise DataError(f"the id {name!r} is no name of a file in a folder")
    return str(path.with_suffix(".flac")) if path.suffix.lower() in SUFFIXES else f"{name}.flac"
