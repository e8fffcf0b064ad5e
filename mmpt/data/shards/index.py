"""The index beside each shard: where every sample lies, its checksum, and what it holds.

A safetensors file, so that opening ten thousand samples is one read and no parsing. Samples follow each other without a gap,
so one span of bytes holds all members of a sample.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from mmpt.data.shards.sample import END, decode_sample, sample_key
from mmpt.errors import DataError
from mmpt.storage import write_bytes

FORMAT = "mmpt-index/1"


@dataclass(frozen=True, eq=False)
class Index:
    """`offsets` int64 [n + 1]: sample i is the bytes offsets[i] … offsets[i + 1] of its tar. `checksums` uint32 [n]: CRC-32 of
    those bytes. `counts` int32 [n, columns]: parts by type, or tokens by modality (see `mmpt.data.shards.manifest`)."""

    offsets: np.ndarray
    checksums: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.checksums)

    @property
    def tar_bytes(self) -> int:
        """Size of the tar that belongs to this index."""
        return int(self.offsets[-1]) + len(END)

    def decode(self, number: int, key_number: int, data: bytes) -> dict[str, bytes]:
        """Members of sample `number` from the bytes of its span, after comparing the checksum. Raises `DataError`."""
        expected = int(self.offsets[number + 1] - self.offsets[number])
        if len(data) != expected:
            raise DataError(f"cut short: {len(data)} of {expected} bytes")
        members = decode_sample(data, sample_key(key_number))
        if zlib.crc32(data) != self.checksums[number]:
            raise DataError("its bytes do not match the checksum in the index")
        return members


def index_path(tar: Path) -> Path:
    """`shard-00000.tar` → `shard-00000.index.safetensors`."""
    return tar.with_suffix(".index.safetensors")


def write_index(tar: Path, index: Index) -> None:
    """Write the index of `tar` beside it, atomically."""
    arrays = {
        "offsets": index.offsets.astype(np.int64),
        "checksums": index.checksums.astype(np.uint32),
        "counts": index.counts.astype(np.int32),
    }
    write_bytes(index_path(tar), safetensors.numpy.save(arrays, metadata={"format": FORMAT}))


def read_index(tar: Path, columns: int) -> Index:
    """Read and check the index of `tar`, whose counts have so many columns. Raises `DataError` naming the index file."""
    path = index_path(tar)
    try:
        with safetensors.safe_open(path, "numpy") as file:
            found = (file.metadata() or {}).get("format")
            if found != FORMAT:
                raise DataError(f"{path}: format is {found!r}, expected {FORMAT!r}")
            index = Index(*(file.get_tensor(name) for name in ("offsets", "checksums", "counts")))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, safetensors.SafetensorError) as problem:
        raise DataError(f"{path}: no index that can be read ({problem})") from None
    documents = len(index.checksums)
    types = tuple(array.dtype for array in (index.offsets, index.checksums, index.counts))
    shapes = (index.offsets.shape, index.checksums.shape, index.counts.shape)
    if types != (np.int64, np.uint32, np.int32) or shapes != ((documents + 1,), (documents,), (documents, columns)):
        raise DataError(f"{path}: arrays of {types} and {shapes} are no index of {columns} columns")
    if index.offsets[0] != 0 or (np.diff(index.offsets) <= 0).any() or (index.counts < 0).any():
        raise DataError(f"{path}: offsets must grow from 0 and counts must not be negative")
    return index
