"""The index beside each shard: where every sample lies, its checksum, and what it holds.

A safetensors file, so that opening ten thousand samples is one read and no parsing. Samples follow each other without a gap,
so one span of bytes holds all members of a sample.
"""

import hashlib
import json
import zlib
from dataclasses import dataclass

import numpy as np
import safetensors
import safetensors.numpy

from mmpt.data.shards.sample import END, decode_sample, sample_key
from mmpt.errors import DataError

FORMAT = "mmpt-index/3"
WITHOUT_KINDS = "mmpt-index/2"
"""Still read where no document has parts: sets of documents, not of tokens."""


@dataclass(frozen=True, eq=False)
class Index:
    """`offsets` int64 [n + 1]: sample i is the bytes offsets[i] … offsets[i + 1] of its tar. `checksums` uint32 [n]: CRC-32 of
    those bytes. `ids` uint64 [n]: `id_hash` of each document's id. `counts` int32 [n, columns]: parts by type, or tokens by
    modality (see `mmpt.data.shards.manifest`). `part_starts` int64 [n + 1], `part_lengths` int32 [parts] and `part_kinds` uint8
    [parts], token sets only: document i consists of parts of part_lengths[part_starts[i] : part_starts[i + 1]] tokens, which are
    text, a picture or an utterance (index into `MODALITIES`), so that a long one can be split before anything is read."""

    offsets: np.ndarray
    checksums: np.ndarray
    ids: np.ndarray
    counts: np.ndarray
    part_starts: np.ndarray
    part_lengths: np.ndarray
    part_kinds: np.ndarray

    def __len__(self) -> int:
        return len(self.checksums)

    @property
    def tar_bytes(self) -> int:
        """Size of the tar that belongs to this index."""
        return int(self.offsets[-1]) + len(END)

    def decode(self, shard: str, number: int, data: bytes) -> dict[str, bytes]:
        """Members of sample `number` of `shard` from the bytes of its span, after comparing the checksum. Raises `DataError`."""
        expected = int(self.offsets[number + 1] - self.offsets[number])
        if len(data) != expected:
            raise DataError(f"cut short: {len(data)} of {expected} bytes")
        members = decode_sample(data, sample_key(shard, number))
        if zlib.crc32(data) != self.checksums[number]:
            raise DataError("its bytes do not match the checksum in the index")
        return members


def id_hash(document_id: str) -> int:
    """64 bits of a document's id by which it is found, and met again, without reading it (BLAKE2b)."""
    return int.from_bytes(hashlib.blake2b(document_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


_TYPES = {
    "offsets": np.int64,
    "checksums": np.uint32,
    "ids": np.uint64,
    "counts": np.int32,
    "part_starts": np.int64,
    "part_lengths": np.int32,
    "part_kinds": np.uint8,
}


def encode_index(index: Index) -> bytes:
    """The bytes of an index file."""
    arrays = {name: np.ascontiguousarray(getattr(index, name), dtype=dtype) for name, dtype in _TYPES.items()}
    return safetensors.numpy.save(arrays, metadata={"format": FORMAT})


def decode_index(data: bytes, columns: int, name: str) -> Index:
    """The inverse of `encode_index`, checked; its counts have so many columns. Raises `DataError` beginning with `name`."""
    try:
        # The header is a length of eight bytes and as much JSON; safetensors' own reader of bytes leaves the metadata out.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        found = header.get("__metadata__", {}).get("format")
        if found not in (FORMAT, WITHOUT_KINDS):
            raise DataError(f"{name}: format is {found!r}, expected {FORMAT!r}")
        arrays = safetensors.numpy.load(data)
        if found == WITHOUT_KINDS:
            if len(arrays["part_lengths"]):
                raise DataError(f"{name}: written before parts had kinds; encode these documents again (datasets/to_tokens.py)")
            arrays["part_kinds"] = np.zeros(0, np.uint8)
        index = Index(**{field: arrays[field] for field in _TYPES})
    except (ValueError, AttributeError, KeyError, safetensors.SafetensorError) as problem:
        raise DataError(f"{name}: no index that can be read ({problem})") from None
    documents, parts = len(index.checksums), len(index.part_lengths)
    types = {field: getattr(index, field).dtype for field in _TYPES}
    arrays = (index.offsets, index.ids, index.counts, index.part_starts, index.part_lengths, index.part_kinds)
    shapes = tuple(array.shape for array in arrays)
    if types != _TYPES or shapes != ((documents + 1,), (documents,), (documents, columns), (documents + 1,), (parts,), (parts,)):
        raise DataError(f"{name}: arrays of {shapes} are no index of {columns} columns")
    if index.offsets[0] != 0 or (np.diff(index.offsets) <= 0).any() or (index.counts < 0).any():
        raise DataError(f"{name}: offsets must grow from 0 and counts must not be negative")
    starts = index.part_starts
    if starts[0] != 0 or starts[-1] != parts or (np.diff(starts) < 0).any() or (index.part_lengths < 0).any():
        raise DataError(f"{name}: part_starts must grow from 0 to the number of parts")
    return index
