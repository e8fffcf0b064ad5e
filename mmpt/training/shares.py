"""Checkpoints that every rank writes a share of: whole tensors, each by one rank, so that any number of ranks reads them.

Each rank puts its files into a hidden folder beside the checkpoint, on the file system that all ranks see, and then a note with
their hashes. Rank 0 waits for all notes, by looking, since the ranks train on meanwhile and a collective would mix with theirs.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmpt.errors import CheckpointError
from mmpt.storage import read_json, sha256, write_json

PATIENCE = 1800.0
"""Seconds that rank 0 waits for the share of another."""
Hashes = dict[str, dict[str, object]]


def owners(sizes: Iterable[tuple[str, int]], ranks: int) -> dict[str, int]:
    """Which rank writes each of these tensors (name, size): the one that has least so far, so that none has much more than its
    part. The same on every rank."""
    held, found = [0] * ranks, {}
    for name, size in sizes:
        found[name] = min(range(ranks), key=held.__getitem__)
        held[found[name]] += size
    return found


def shard_name(stem: str, rank: int, ranks: int) -> str:
    """`stem`.safetensors where one rank writes all, else as Hugging Face numbers the files of a large model."""
    return f"{stem}.safetensors" if ranks == 1 else f"{stem}-{rank + 1:05d}-of-{ranks:05d}.safetensors"


def hand_in(folder: Path, rank: int, names: Iterable[str]) -> None:
    """Say that the files `names` of this rank in `folder` are whole and on the disk."""
    hashes = {}
    for name in names:
        path = folder / name
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
        hashes[name] = {"sha256": sha256(path), "bytes": path.stat().st_size}
    write_json(_note(folder, rank), {"files": hashes})


def give_up(folder: Path, rank: int, problem: BaseException) -> None:
    """Say that this rank could not write its files."""
    if folder.is_dir():
        write_json(_note(folder, rank), {"problem": f"{type(problem).__name__}: {problem}"})


def handed_in(folder: Path, ranks: int, patience: float = PATIENCE, abandoned: Callable[[], bool] = lambda: False) -> Hashes:
    """Wait for the notes of all ranks but the first, which asks; the files by name, with their hashes. Raises `CheckpointError`
    naming a rank that gave up, or that says nothing for `patience` seconds, or until the work is `abandoned`."""
    found: Hashes = {}
    end = time.monotonic() + patience
    for rank in range(1, ranks):
        note = _note(folder, rank)
        while not note.is_file():
            if time.monotonic() > end or abandoned():
                raise CheckpointError(f"{folder}: rank {rank} has not written its share of the checkpoint")
            time.sleep(0.02)
        content = read_json(note, CheckpointError)
        if "problem" in content:
            raise CheckpointError(f"{folder}: rank {rank} could not write its share of the checkpoint: {content['problem']}")
        found |= content["files"]
    return found


def _note(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank:05d}.json"


class TensorFiles(Mapping[str, Tensor]):
    """The tensors of safetensors files, each read when it is asked for. Raises `CheckpointError` where a file cannot be read."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._files = {}
        for path in paths:
            try:
                file = safe_open(path, framework="pt")
                for name in file.keys():  # noqa: SIM118 - it is no mapping
                    self.shapes[name], self._files[name] = tuple(file.get_slice(name).get_shape()), file
            except (SafetensorError, OSError) as problem:
                raise CheckpointError(f"{path}: it cannot be read ({problem})") from None

    def __getitem__(self, name: str) -> Tensor:
        return self._files[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def weight_map(folder: Path) -> dict[str, object]:
    """The index of the files model-*.safetensors of `folder`, as transformers reads it."""
    paths = sorted(folder.glob("model-*.safetensors"))
    names, size = {}, 0
    for path in paths:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                names[name] = path.name
                part = file.get_slice(name)
                size += torch.Size(part.get_shape()).numel() * BYTES[part.get_dtype()]
    return {"metadata": {"total_size": size}, "weight_map": dict(sorted(names.items()))}


BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
