"""A file of a store as Python reads files: only the ranges that are asked for are read."""

import io

from mmpt.data.store import Store


class Ranges(io.RawIOBase):
    """The file `name` of `store`, from byte `start` on. Raises `DataError` where there is none, or where it cannot be read."""

    def __init__(self, store: Store, name: str, start: int = 0) -> None:
        self._store, self._name, self._start = store, name, start
        self._size, self._at = store.size(name) - start, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer) -> int:
        data = self._store.read_range(self._name, self._start + self._at, self._start + min(self._at + len(buffer), self._size))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
