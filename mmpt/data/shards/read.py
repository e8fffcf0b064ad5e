"""Readers of shard sets: any document by its number in one read, from any process or thread."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmpt.data.shards.manifest import check_size, open_index, read_manifest
from mmpt.data.shards.sample import decode_json, sample_key
from mmpt.data.shards.tokens import TokenDocument, from_members
from mmpt.document import Document, from_record
from mmpt.errors import DataError, VocabularyError
from mmpt.vocabulary import Vocabulary, check_same

MAX_OPEN = 64


class _OpenTar:
    """A file descriptor that closes when its last user lets go, so that a thread never reads from a reused number."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class _Shards:
    """What both readers share: the manifest, the indices, and the members of sample i by one positioned read."""

    kind: str

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder, self.kind)
        for shard in self.manifest["shards"]:
            check_size(self.folder, shard)
        self._indices = [open_index(self.folder, self.manifest, shard) for shard in self.manifest["shards"]]
        self._starts = np.cumsum([0, *map(len, self._indices)])
        self._tars: dict[int, _OpenTar] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_tars": {}}

    def _members(self, number: int) -> tuple[dict[str, bytes], str]:
        """(members of sample `number`, where it lies, for messages). Raises IndexError and `DataError`."""
        number = range(len(self))[number]
        shard = int(np.searchsorted(self._starts, number, side="right")) - 1
        index, within = self._indices[shard], number - int(self._starts[shard])
        name = self.manifest["shards"][shard]["name"]
        where = f"{self.folder / name}: sample {sample_key(name, within)}"
        start, end = index.offsets[within : within + 2].tolist()
        try:
            data = os.pread(self._tar(shard).descriptor, end - start, start)
            return index.decode(name, within, data), where
        except (OSError, DataError) as problem:
            raise DataError(f"{where}: {problem}") from None

    def _tar(self, shard: int) -> _OpenTar:
        tar = self._tars.get(shard)
        if tar is None:
            while len(self._tars) >= MAX_OPEN:
                self._tars.pop(next(iter(self._tars)), None)
            tar = self._tars[shard] = _OpenTar(self.folder / self.manifest["shards"][shard]["name"])
        return tar


class DocumentShards(_Shards):
    """The documents of a set written by `ShardWriter`: `len`, `[i]` in one read, iteration, and the `manifest`.

    Opening raises `DataError` where the manifest is missing or of another format, an index is damaged, or a tar has not the
    size in the manifest. `[i]` raises `DataError`, naming shard and key, where the sample is damaged.
    """

    kind = "documents"

    def __getitem__(self, number: int) -> Document:
        members, where = self._members(number)
        try:
            return from_record(decode_json(members.pop("json")), members)
        except DataError as problem:
            raise DataError(f"{where}: {problem}") from None

    def __iter__(self) -> Iterator[Document]:
        return (self[number] for number in range(len(self)))


class TokenShards(_Shards):
    """The token sequences of a set written by `TokenShardWriter`; raises as `DocumentShards` does.

    `vocabulary` is the one the set was written with; where one is given and differs, `VocabularyError` names both sides.
    `modality_counts` int64 [documents, 4] and `lengths` int64 [documents], both in tokens, come from the indices alone.
    """

    kind = "tokens"

    def __init__(self, folder: Path, vocabulary: Vocabulary | None = None) -> None:
        super().__init__(folder)
        self.vocabulary = Vocabulary.load(self.folder)
        if self.vocabulary.fingerprint != self.manifest["vocabulary"]:
            raise VocabularyError(f"{self.folder}: vocabulary.json is not the vocabulary that the manifest names")
        if vocabulary is not None:
            check_same(self.vocabulary, str(self.folder), vocabulary, "the vocabulary it is to be read with")
        counts = [np.zeros((0, 4), dtype=np.int64), *(index.counts for index in self._indices)]
        self.modality_counts = np.concatenate(counts).astype(np.int64)
        self.lengths = self.modality_counts.sum(axis=1)

    def __getitem__(self, number: int) -> TokenDocument:
        members, where = self._members(number)
        try:
            return from_members(members, self.vocabulary)
        except DataError as problem:
            raise DataError(f"{where}: {problem}") from None

    def __iter__(self) -> Iterator[TokenDocument]:
        return (self[number] for number in range(len(self)))
