"""Folders or shards of media to lines of codes; stopped at any moment, the same call goes on.

A line of `codes.jsonl`: {"id": …, "codes": […]} and what the kind of medium adds. What could not be read is in `lost.jsonl`.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Generic, TypeVar

from rich.progress import Progress

from mmpt.data.lost import LOST_FILE, Lost, from_lines, to_lines
from mmpt.data.shards.manifest import MANIFEST
from mmpt.data.shards.read import DocumentShards
from mmpt.data.store import Store
from mmpt.document import Image, Speech
from mmpt.errors import ConfigError, DataError
from mmpt.storage import write_bytes

CODES_FILE = "codes.jsonl"
M = TypeVar("M")


@dataclass(frozen=True)
class MediumCoder(Generic[M]):
    """What `encode_media` needs to know of a kind of medium.

    `decode` gives a medium of its bytes, or raises `DataError`; `size` tells how much it is, in the `unit` that progress is told
    in; `encode` gives the line of each, without its id; about `together` of the unit are encoded, and written, at once.
    """

    part: type[Speech] | type[Image]
    suffixes: tuple[str, ...]
    unit: str
    together: float
    decode: Callable[[bytes], M]
    size: Callable[[M], float]
    encode: Callable[[Sequence[M]], Sequence[dict]]


@dataclass(frozen=True)
class Speed:
    """`amount` of `unit` in `items`, done in `wall` seconds; `lost` could not be read, `skipped` were done before."""

    items: int
    amount: float
    unit: str
    wall: float
    lost: int
    skipped: int

    def __str__(self) -> str:
        return (
            f"{self.items} done, {self.amount:.1f} {self.unit} in {self.wall:.1f} s ({rate(self.unit, self.amount, self.wall)}); "
            f"{self.lost} lost, {self.skipped} done before"
        )


def rate(unit: str, amount: float, wall: float) -> str:
    """How fast `amount` of `unit` was done in `wall` seconds: of speech, seconds for each second."""
    if unit.startswith("seconds"):
        return f"real-time factor {wall / max(amount, 1e-9):.4f}"
    return f"{amount / max(wall, 1e-9):.1f} {unit} a second"


def encode_media(medium: MediumCoder[M], source: Path | str, out: Path, progress: Progress) -> Speed:
    """Codes of every file of the folder `source`, or of every such part of the document shards there, in `out`.

    The id of a file is its name in the folder, that of a part "DOCUMENT/PART". Raises `ConfigError` where there is nothing to
    encode, `DataError` where what is in `out` cannot be gone on from.
    """
    items, total = _items(medium, source)
    out.mkdir(parents=True, exist_ok=True)
    done = {line["id"] for line in read_codes(out / CODES_FILE)} if _cut_last_line(out / CODES_FILE) else set()
    known_lost = {one.item for one in from_lines((out / LOST_FILE).read_bytes())} if _cut_last_line(out / LOST_FILE) else set()
    task = progress.add_task("encoding", total=total, completed=len(done) + len(known_lost))
    new = ((name, load) for name, load in items if name not in done and name not in known_lost)
    began, amount, count, lost = time.perf_counter(), 0.0, 0, 0
    for batch in _batches(medium, new):
        whole = [(name, item) for name, item in batch if not isinstance(item, Lost)]
        found = medium.encode([item for _, item in whole]) if whole else []
        lines = [{"id": name, **line} for (name, _), line in zip(whole, found, strict=True)]
        _append(out / CODES_FILE, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        _append(out / LOST_FILE, to_lines(item for _, item in batch if isinstance(item, Lost)))
        count, lost = count + len(whole), lost + len(batch) - len(whole)
        amount += sum(medium.size(item) for _, item in whole)
        told = rate(medium.unit, amount, time.perf_counter() - began)
        progress.update(task, advance=len(batch), description=f"encoding: {told}")
    return Speed(count, amount, medium.unit, time.perf_counter() - began, lost, len(done) + len(known_lost))


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


def lines_to_decode(source: Path, out: Path, suffixes: Sequence[str], suffix: str) -> list[tuple[dict, Path]]:
    """The lines of the codes file `source` (or of `source`/codes.jsonl), each with the file in `out` that it is for, named by its
    id. Raises `DataError` on an id that would lead out of the folder."""
    lines = list(read_codes(source / CODES_FILE if source.is_dir() else source))
    return [(line, out / _file_name(line["id"], suffixes, suffix)) for line in lines]


def _items(medium: MediumCoder, source: Path | str) -> tuple[Iterable[tuple[str, Callable[[], bytes]]], int | None]:
    """(id, what gives its bytes) of everything to be encoded, and how many."""
    store = Store(source)
    try:
        names = [name for name in store.files() if name.lower().endswith((*medium.suffixes, MANIFEST))]
    except DataError as problem:
        raise ConfigError(str(problem)) from None
    if MANIFEST in names:
        return _parts(DocumentShards(source), medium.part), None
    files = [name for name in names if name.lower().endswith(medium.suffixes)]
    if not files:
        raise ConfigError(f"{source}: neither document shards nor a file of {', '.join(medium.suffixes)}")
    return ((name, lambda name=name: store.read(name)) for name in files), len(files)


def _parts(shards: DocumentShards, kind: type[Speech] | type[Image]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    for number in range(len(shards)):
        try:
            document = shards[number]
        except DataError as problem:
            reason = str(problem)
            yield f"document {number}", lambda reason=reason: _refuse(reason)
            continue
        for place, part in enumerate(document.parts):
            if isinstance(part, kind):
                yield f"{document.id}/{place}", lambda part=part: part.data  # of this round, not of the last


def _refuse(reason: str) -> bytes:
    raise DataError(reason)


def _batches(medium: MediumCoder[M], items: Iterable[tuple[str, Callable[[], bytes]]]) -> Iterator[list[tuple[str, M | Lost]]]:
    """Decoded media, as many together as make about `medium.together`."""
    batch, amount = [], 0.0
    for name, load in items:
        try:
            item = medium.decode(load())
            amount += medium.size(item)
            batch.append((name, item))
        except DataError as problem:
            batch.append((name, Lost(name, str(problem))))
        if amount >= medium.together or len(batch) >= 4096:
            yield batch
            batch, amount = [], 0.0
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


def _file_name(name: str, suffixes: Sequence[str], suffix: str) -> str:
    """`a/b.wav` → `a/b.flac`. Raises `DataError` where it would lead out of the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise DataError(f"the id {name!r} is no name of a file in a folder")
    return str(path.with_suffix(suffix)) if path.suffix.lower() in suffixes else f"{name}{suffix}"
