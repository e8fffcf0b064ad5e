"""A zip archive of a stranger as a folder of files: each read by its declared size, none above a limit."""

import io
import zipfile
import zlib

from mmpt.errors import DataError

MAX_BYTES = 512 << 20
"""Largest file of an archive that is unpacked, one at a time."""
MAX_FILES = 100_000


class Archive:
    """The files in the zip `data`; `location` stands for it in messages. Raises `DataError` where it is none."""

    def __init__(self, data: bytes, location: str) -> None:
        self.location = location
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as problem:
            raise DataError(f"no archive that can be read ({problem})") from None
        found = [info for info in self._zip.infolist() if not info.is_dir()]
        if len(found) > MAX_FILES:
            raise DataError(f"archive of {len(found)} files, at most {MAX_FILES} are read")
        self._files = {info.filename: info for info in found}

    def path(self, name: str) -> str:
        return f"{self.location}/{name}"

    def files(self) -> dict[str, int]:
        """Name → unpacked bytes of each file."""
        return {name: info.file_size for name, info in self._files.items()}

    def exists(self, name: str) -> bool:
        return name in self._files

    def read(self, name: str, max_bytes: int = MAX_BYTES) -> bytes:
        """A file's content. zipfile unpacks no more than the archive says, so that is what is limited."""
        info = self._files.get(name)
        if info is None:
            raise DataError(f"{self.path(name)}: no such file")
        if info.file_size > max_bytes:
            raise DataError(f"{self.path(name)}: of {info.file_size} bytes, at most {max_bytes} are unpacked")
        try:
            return self._zip.read(info)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, NotImplementedError) as problem:
            raise DataError(f"{self.path(name)}: cannot be unpacked ({problem})") from None
