"""A folder on this machine that keeps files of remote sets, found by the hash of their content, up to a size."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmpt.data.store import Store
from mmpt.errors import DataError
from mmpt.storage import sha256

MAX_BYTES = 64 << 30


class Cache:
    """Files in `folder`, at most about `max_bytes` of them; those not used for longest go first.

    Any number of processes and threads may share the folder: a file is fetched by one of them while the others wait, appears
    whole by one rename, and stays readable for who reads it when it is removed.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self.folder, self.max_bytes = Path(folder), max_bytes

    def fetch(self, store: Store, name: str, expected: str) -> Path:
        """A copy of the file `name` of `store`, whose SHA-256 is `expected`, under its own name. Raises `DataError`."""
        path = self.folder / expected[:2] / expected / name.rpartition("/")[2]
        if _used(path):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self.folder / expected[:2]):
            if not _used(path):  # nobody fetched it while we waited
                self._download(store, name, expected, path)
        return path

    def _download(self, store: Store, name: str, expected: str, path: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=".download-", dir=self.folder) as folder:
            copy = Path(folder) / path.name
            for attempt in range(2):
                store.download(name, copy)
                if sha256(copy) == expected:
                    break
                if attempt:
                    raise DataError(f"{store.path(name)}: differs from the hash in the manifest, twice")
            self._make_room(copy.stat().st_size)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(copy, path)

    def _make_room(self, size: int) -> None:
        files = []
        for path in self.folder.glob("[0-9a-f][0-9a-f]/*/*"):
            try:
                files.append((path.stat().st_mtime_ns, path.stat().st_size, path))
            except FileNotFoundError:
                continue
        total = sum(one for _, one, _ in files) + size
        for _, one, path in sorted(files):
            if total <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= one


def _used(path: Path) -> bool:
    """Whether the file is there; if so, it counts as used now."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder; it ends with the process at the latest."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
