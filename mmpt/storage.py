"""Files that are either whole under their final name or not there at all.

Everything mmpt writes goes through here: a file is written beside its final name, flushed to disk and renamed; a folder is
filled under a temporary name, gets a `manifest.json` with the SHA-256 of each file, and is published by one rename.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmpt.errors import CheckpointError, DataError, DiskFullError

MANIFEST = "manifest.json"
FULL = (errno.ENOSPC, errno.EDQUOT)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Raise `DiskFullError` naming `path` where the work inside finds the disk, or the user's quota, full."""
    try:
        yield
    except DiskFullError:
        raise
    except Exception as problem:
        if not _is_full(problem):
            raise
        raise DiskFullError(f"{path}: it cannot be written, the disk is full ({problem})") from None


def _is_full(problem: Exception) -> bool:
    if isinstance(problem, OSError):
        return problem.errno in FULL
    # safetensors writes by itself, and says so in words alone
    found = re.search(r"os error (\d+)|code: (\d+)", str(problem)) if type(problem).__name__ == "SafetensorError" else None
    return found is not None and int(found[1] or found[2]) in FULL


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` under `path` atomically and durably."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with room_for(path):
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON under `path`, atomically. NaN and infinity are refused: they are not JSON."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path, error: type[Exception] = DataError) -> dict:
    """Read a JSON object. Raises `error`, naming the file, where it is missing or is not a JSON object."""
    try:
        return parse_json(Path(path).read_bytes(), path, error)
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None


def parse_json(data: bytes, path: Path | str, error: type[Exception] = DataError) -> dict:
    """The JSON object in the bytes of the file `path`. Raises `error` as `read_json` does."""
    try:
        value = json.loads(data)
    except ValueError as problem:
        raise error(f"{path}: not valid JSON ({problem})") from None
    if not isinstance(value, dict):
        raise error(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def is_missing_folder(name: str | Path) -> bool:
    """Whether `name`, where a Hugging Face name may stand as well, can only be a folder that is not there: such a name is NAME or
    OWNER/NAME, so what is absolute, begins with a dot, is deeper, or would lie in a folder that exists was meant as a path."""
    text, path = str(name), Path(name)
    if path.exists():
        return False
    if text.startswith((".", "~", "/")) or len(path.parts) > 2:
        return True
    return len(path.parts) == 2 and (path.parent.is_dir() or path.parts[0] == "runs")


@contextmanager
def published_folder(final: Path, manifest: dict, known: dict[str, dict] | None = None) -> Iterator[Path]:
    """Yield a temporary folder; on a clean exit hash its files into `manifest.json` and rename it to `final`.

    `manifest` holds whatever describes the folder (`format` first); `files` is added: path → {"sha256", "bytes"}, and `seal`, the
    SHA-256 of all that. `known` has the entries of some files already, such as those of `link_tree`. An existing `final` is
    replaced. After an error nothing is left behind.
    """
    final = Path(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        with room_for(final):
            yield temporary
            files = {
                name: (known or {}).get(name) or {"sha256": sha256(path), "bytes": path.stat().st_size}
                for name, path in ((str(path.relative_to(temporary)), path) for path in sorted(temporary.rglob("*")))
                if path.is_file()
            }
            content = {**manifest, "files": files}
            write_json(temporary / MANIFEST, {**content, "seal": _seal(content)})
            for path in temporary.rglob("*"):
                _sync(path)
            _sync(temporary)
            if final.exists():
                replaced = final.with_name(f".{final.name}.{os.getpid()}.old")
                os.replace(final, replaced)
                os.replace(temporary, final)
                shutil.rmtree(replaced)
            else:
                os.replace(temporary, final)
            _sync(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def link_tree(source: Path, target: Path) -> None:
    """Make the folder `target` of hard links to the files of `source`; of copies where the file system has no links.

    Files that mmpt has published are never written again, so a link is as good as a copy and takes no room.
    """
    for path in sorted(Path(source).rglob("*")):
        to = target / path.relative_to(source)
        if path.is_dir():
            to.mkdir(parents=True, exist_ok=True)
            continue
        to.parent.mkdir(parents=True, exist_ok=True)
        _link(path, to)


def link_files(source: Path, target: Path, suffixes: tuple[str, ...]) -> None:
    """The same of the files of `source` itself whose names end in one of `suffixes`, not of what lies in its folders."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(Path(source).iterdir()):
        if path.name.endswith(suffixes) and path.is_file():
            _link(path, target / path.name)


def _link(path: Path, to: Path) -> None:
    try:
        os.link(path.resolve(), to)  # a cache of Hugging Face holds symbolic links
    except OSError:
        shutil.copyfile(path, to)


def check_folder(folder: Path, expected_format: str) -> dict:
    """Return the manifest of a folder written by `published_folder` after checking every file against it.

    Raises `CheckpointError` naming each file that is missing or differs, or the format found instead of `expected_format`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder")
    if not (folder / MANIFEST).is_file():
        raise CheckpointError(f"{folder}: {MANIFEST} is missing, so this is no finished {expected_format} folder")
    manifest = read_json(folder / MANIFEST, CheckpointError)
    if manifest.get("format") != expected_format:
        raise CheckpointError(f"{folder}/{MANIFEST}: format is {manifest.get('format')!r}, expected {expected_format!r}")
    if manifest.get("seal") != _seal({name: value for name, value in manifest.items() if name != "seal"}):
        raise CheckpointError(f"{folder}/{MANIFEST}: its content differs from its seal")
    problems = []
    for name, entry in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name}: missing")
        elif path.stat().st_size != entry["bytes"] or sha256(path) != entry["sha256"]:
            problems.append(f"{name}: differs from the hash in {MANIFEST}")
    if problems:
        raise CheckpointError(f"{folder}: damaged\n  " + "\n  ".join(problems))
    return manifest


def _seal(manifest: dict) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
