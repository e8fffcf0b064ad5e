"""One folder of files, on this machine or anywhere fsspec reaches (`s3://…`, `gs://…`): read, written, listed, with retries."""

import errno
import hashlib
import json
import os
import shutil
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from mmpt.errors import ConfigError, DataError
from mmpt.storage import write_bytes

ATTEMPTS = 16
"""Times that an operation on a remote store is tried: where half of all requests fail, one operation in 65,536 does."""
LONGEST_WAIT = 2.0
"""Seconds at most between two attempts; the first wait is a fortieth of it, and doubles."""
CHUNK = 8 << 20
"""Bytes that are read at once of a file that is read to its end."""
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_FINAL_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
T = TypeVar("T")


class Store:
    """A folder at `location`, a path or a URL that fsspec knows. Names are relative, with "/", and never lead out of it.

    What names lie in data (members, JSON, pages) is a stranger's, so a name with ".." or from the root is refused. A link that
    lies in the folder is its owner's: it is followed where files are listed and read, wherever it leads, since data on other
    disks and the cache of the Hugging Face hub are folders of links. Of a tree from strangers, look at the links first.
    Nothing is written or removed by way of a link that leads out.

    Every operation raises `DataError`, naming the file, where it cannot be done; a remote one is tried `ATTEMPTS` times first.
    """

    def __init__(self, location: str | Path) -> None:
        try:
            self._files, root = fsspec.core.url_to_fs(str(location))
        except (ImportError, ValueError) as problem:
            raise DataError(f"{location}: cannot be opened ({problem})") from None
        self.is_local = isinstance(self._files, LocalFileSystem)
        # a path, also where it was given as file://…, so that whoever opens files here may join names to it
        given = root if self.is_local and "://" in str(location) else str(location)
        self.location = given.rstrip("/") or "/"
        self._root = root.rstrip("/")

    def __repr__(self) -> str:
        return f"Store({self.location!r})"

    def path(self, name: str) -> str:
        """Full path or URL of a file, for messages."""
        return f"{self.location}/{name}"

    def files(self) -> dict[str, int]:
        """Name → bytes of every file in the folder and those below it, sorted by name.

        Links are followed, a folder that several lead to once; one that leads nowhere, or to itself, is a file of 0 bytes.
        """
        if self.is_local:
            if not Path(self._root).is_dir():
                raise DataError(f"{self.location}: no such folder")
            return dict(sorted(self._walk()))
        listed = self._try(self.location, lambda: self._files.find(self._root, detail=True))
        if not listed:
            raise DataError(f"{self.location}: no such folder, or nothing in it")
        unknown = [name for name, entry in listed.items() if entry["size"] is None]  # web servers list names alone
        sizes = dict(zip(unknown, self._try(self.location, lambda: self._files.sizes(unknown)), strict=True)) if unknown else {}
        found = {name: entry["size"] if entry["size"] is not None else sizes[name] for name, entry in listed.items()}
        return dict(sorted((name[len(self._root) :].lstrip("/"), int(size or 0)) for name, size in found.items()))

    def _walk(self) -> Iterator[tuple[str, int]]:
        """Folders that are there before those that links lead to: of two ways to a folder the straight one counts."""
        folders, linked, seen = deque([""]), deque(), set()
        while folders or linked:
            prefix = (folders or linked).popleft()
            try:
                status = os.stat(f"{self._root}/{prefix}")
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                with os.scandir(f"{self._root}/{prefix}") as entries:
                    listed = sorted(entries, key=lambda entry: entry.name)
            except OSError as problem:
                raise DataError(f"{self.location}/{prefix}: {_reason(problem)}") from None
            for entry in listed:
                name = f"{prefix}{entry.name}"
                try:
                    status = entry.stat()
                except OSError:
                    yield name, 0
                    continue
                if stat.S_ISDIR(status.st_mode):
                    (linked if entry.is_symlink() else folders).append(f"{name}/")
                elif stat.S_ISREG(status.st_mode):
                    yield name, status.st_size

    def exists(self, name: str) -> bool:
        full = self._full(name)
        return self._try(self.path(name), lambda: self._files.isfile(full))

    def size(self, name: str) -> int:
        """Bytes of a file."""
        full = self._full(name)
        return int(self._try(self.path(name), lambda: self._files.size(full)))

    def read(self, name: str) -> bytes:
        """The whole content of a file."""
        full = self._full(name)
        return self._try(self.path(name), lambda: self._files.cat_file(full))

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end` of a file; fewer where it is shorter."""
        full = self._full(name)
        return self._try(self.path(name), lambda: self._files.cat_file(full, start, end))

    def chunks(self, name: str) -> Iterator[bytes]:
        """The whole content of a file, piece by piece, so that a large one does not have to fit into memory."""
        size = self.size(name)
        return (self.read_range(name, start, min(size, start + CHUNK)) for start in range(0, size, CHUNK))

    def sha256(self, name: str) -> str:
        """SHA-256 of a file's content, in hexadecimal digits."""
        found = hashlib.sha256()
        for data in self.chunks(name):
            found.update(data)
        return found.hexdigest()

    def download(self, name: str, target: Path) -> None:
        """Copy a file to `target` on this machine."""
        full = self._full(name)
        self._try(self.path(name), lambda: self._files.get_file(full, str(target)))

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole, or not at all."""
        full = self._own(name)
        if self.is_local:
            Path(full).parent.mkdir(parents=True, exist_ok=True)
            self._try(self.path(name), lambda: write_bytes(Path(full), data))
        else:
            self._try(self.path(name), lambda: self._files.pipe_file(full, data))

    def put(self, name: str, source: Path) -> None:
        """Move the file `source` of this machine to `name`, whole or not at all; on this machine both are on one disk."""
        full = self._own(name)
        if self.is_local:
            Path(full).parent.mkdir(parents=True, exist_ok=True)
            self._try(self.path(name), lambda: os.replace(source, full))
        else:
            self._try(self.path(name), lambda: self._files.put_file(str(source), full))
            source.unlink()

    def copy(self, name: str, source: Path) -> None:
        """Copy the file `source` of this machine to `name`, whole or not at all."""
        full = self._own(name)
        if self.is_local:
            temporary = Path(f"{full}.{os.getpid()}.tmp")
            temporary.parent.mkdir(parents=True, exist_ok=True)
            self._try(self.path(name), lambda: shutil.copyfile(source, temporary))
            self._try(self.path(name), lambda: os.replace(temporary, full))
        else:
            self._try(self.path(name), lambda: self._files.put_file(str(source), full))

    def duplicate(self, name: str, to: str) -> None:
        """Copy a file to another name of the same store, which does it by itself where it can."""
        full, target = self._full(name), self._own(to)
        if self.is_local:
            self.copy(to, Path(full))
        else:
            self._try(self.path(to), lambda: self._files.cp_file(full, target))

    def json(self, name: str) -> dict:
        """The object in a file of JSON."""
        try:
            found = json.loads(self.read(name))
        except ValueError as problem:
            raise DataError(f"{self.path(name)}: no JSON ({problem})") from None
        if not isinstance(found, dict):
            raise DataError(f"{self.path(name)}: expected an object")
        return found

    def remove(self, name: str) -> None:
        """Remove a file or a folder, where there is one."""
        full = self._own(name)
        if self.is_local:
            path = Path(full)
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        elif self._try(self.path(name), lambda: self._files.exists(full)):
            self._try(self.path(name), lambda: self._files.rm(full, recursive=True))

    def _full(self, name: str) -> str:
        """Path or URL of a file."""
        pure = PurePosixPath(name)
        if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
            raise DataError(f"{name!r}: no name of a file in {self.location}")
        try:
            os.fsencode(name)
        except UnicodeEncodeError:  # half of a surrogate pair, which no file system knows
            raise DataError(f"{name!r}: no name of a file in {self.location}") from None
        return f"{self._root}/{pure}"

    def _own(self, name: str) -> str:
        """Path or URL of a file that is to be changed."""
        full = self._full(name)
        if self.is_local and not Path(os.path.realpath(full)).is_relative_to(os.path.realpath(self._root)):
            raise DataError(f"{self.path(name)}: leads out of the folder")
        return full

    def _try(self, what: str, operation: Callable[[], T]) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return operation()
            except Exception as problem:
                # Clients of remote stores raise errors of their own, such as httpx's, that are none of the system's.
                of_client = not self.is_local and type(problem).__module__ != "builtins"
                if not (of_client or isinstance(problem, OSError)):
                    raise
                final = isinstance(problem, _FINAL) or getattr(problem, "errno", None) in _FINAL_NUMBERS
                if self.is_local or final or attempt == ATTEMPTS:
                    after = f" after {attempt} attempts" if attempt > 1 else ""
                    raise DataError(f"{what}: {_reason(problem)}{after}") from None
            time.sleep(min(LONGEST_WAIT, LONGEST_WAIT / 40 * 2 ** (attempt - 1)))
        raise AssertionError("unreachable")


def files_of(location: str | Path) -> dict[str, int]:
    """Name → bytes of each file of a folder that a specification names. Raises `ConfigError` where there is none."""
    try:
        return Store(location).files()
    except DataError as problem:
        raise ConfigError(str(problem)) from None


def write_file(location: str | Path, data: bytes) -> None:
    """Write one file, at a path or a URL that fsspec knows, whole or not at all."""
    store, name = at(location)
    store.write(name, data)


def at(location: str | Path) -> tuple[Store, str]:
    """The folder of the file at a path or a URL, and its name in there."""
    folder, slash, name = str(location).rpartition("/")
    return Store(folder or slash or "."), name


def _reason(problem: Exception) -> str:
    if isinstance(problem, FileNotFoundError):
        return "no such file"
    return getattr(problem, "strerror", None) or f"{type(problem).__name__}: {problem}"
