"""Readers of shard sets: any document by its number in one read, from any process or thread."""

import os
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from mmpt.data.cache import Cache
from mmpt.data.shards.index import Index, id_hash
from mmpt.data.shards.manifest import (
    DocumentManifest,
    Manifest,
    TokenManifest,
    check_index,
    check_size,
    index_name,
    read_manifest,
)
from mmpt.data.shards.sample import decode_json, find_member, sample_key
from mmpt.data.shards.tokens import TokenDocument, from_members
from mmpt.data.store import CHUNK, Store
from mmpt.document import Document, Part, from_record
from mmpt.errors import DataError, VocabularyError
from mmpt.vocabulary import FILE as VOCABULARY_FILE
from mmpt.vocabulary import MODALITIES, Vocabulary, check_same

M = TypeVar("M", bound=Manifest)
MAX_OPEN = 64
"""Tars kept open."""
MAX_INDICES = 256
"""Indices kept in memory, of about half a megabyte each."""
WHOLE = 1 << 20
"""Bytes of a document up to which reading it whole, checksum and all, costs no more than finding one part of it."""


class _OpenTar:
    """A file descriptor that closes when its last user lets go, so that a thread never reads from a reused number."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class _Shards(Generic[M]):
    """What both readers share: the manifest, the indices, and the members of sample i by one positioned read.

    Opening reads the manifest alone; an index is read when its shard is first needed. Of a set that lies elsewhere (an fsspec
    URL) just the samples are read that are asked for, or, with a `cache`, whole files as they are needed.
    """

    def __init__(self, folder: Path | str, schema: type[M], cache: Cache | None = None) -> None:
        self.store, self._cache = Store(folder), cache
        self.manifest: M = read_manifest(folder, schema)
        self.folder = Path(self.store.location) if self.store.is_local else self.store.location
        self.shard_documents = np.array([shard.documents for shard in self.manifest.shards], dtype=np.int64)
        """int64 [shards]: documents in each."""
        self._starts = np.cumsum([0, *self.shard_documents])
        self._begin()

    def _begin(self) -> None:
        self._tars: dict[int, _OpenTar] = {}
        self._ahead = ("", 0, b"")  # the shard, the place in it and the bytes that were last read of a set elsewhere
        self.index = lru_cache(maxsize=MAX_INDICES)(self._read_index)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name not in ("_tars", "_ahead", "index")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._begin()

    def shard_path(self, shard: int) -> str:
        """Path or URL of the tar of shard number `shard`."""
        return self.store.path(self.manifest.shards[shard].name)

    def _local(self, name: str) -> Path:
        """The file `name` of the set on this machine."""
        if self._cache is None:
            return Path(self.folder) / name
        return self._cache.fetch(self.store, name, self.manifest.files[name].sha256)

    def _read(self, name: str) -> bytes:
        return self.store.read(name) if self._cache is None else self._local(name).read_bytes()

    def _span(self, shard: int, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end` of a tar. Where one of a set elsewhere follows another, more is read."""
        if self.store.is_local or self._cache is not None:
            tar = self._tar(shard)  # held until it is read: another thread may put its own in its place
            return os.pread(tar.descriptor, end - start, start)
        name = self.manifest.shards[shard].name
        last, begin, data = self._ahead
        known = range(begin, begin + len(data) + 1) if last == name else range(0)
        if start not in known or end not in known:
            more = start + CHUNK if start in known and start > begin else end
            begin, data = start, self.store.read_range(name, start, max(more, end))
            self._ahead = (name, begin, data)
        return data[start - begin : end - begin]

    def _read_index(self, shard: int) -> Index:
        entry = self.manifest.shards[shard]
        name = index_name(entry.name)
        return check_index(self._read(name), self.manifest.files, entry, self.store.path(name))

    def _place(self, number: int) -> tuple[int, int]:
        """(shard, number in the shard) of sample `number`. Raises IndexError."""
        number = range(len(self))[number]
        shard = int(np.searchsorted(self._starts, number, side="right")) - 1
        return shard, number - int(self._starts[shard])

    def _members(self, shard: int, number: int) -> dict[str, bytes]:
        """Members of a sample. Raises `DataError` naming shard and key."""
        try:
            index = self.index(shard)
            start, end = index.offsets[number : number + 2].tolist()
            return index.decode(self.manifest.shards[shard].name, number, self._span(shard, start, end))
        except (OSError, DataError) as problem:
            raise DataError(f"{self._where(shard, number)}: {problem}") from None

    def _where(self, shard: int, number: int) -> str:
        return f"{self.shard_path(shard)}: sample {sample_key(self.manifest.shards[shard].name, number)}"

    def _tar(self, shard: int) -> _OpenTar:
        tar = self._tars.get(shard)
        if tar is None:
            entry = self.manifest.shards[shard]
            path = self._local(entry.name)
            check_size(Store(path.parent), entry)
            while len(self._tars) >= MAX_OPEN:
                self._tars.pop(next(iter(self._tars)), None)
            tar = self._tars[shard] = _OpenTar(path)
        return tar


class DocumentShards(_Shards[DocumentManifest]):
    """The documents of a set written by `ShardWriter`: `len`, `[i]` in one read, iteration, and the `manifest`.

    Opening raises `DataError` where the manifest is missing or of another format. `[i]` raises `DataError`, naming shard and
    key, where the index or the sample is damaged or the tar has not the size in the manifest.
    """

    def __init__(self, folder: Path | str, cache: Cache | None = None) -> None:
        super().__init__(folder, DocumentManifest, cache)

    def __getitem__(self, number: int) -> Document:
        return self.read(*self._place(number))

    def find(self, document_id: str) -> Document:
        """The document with this id, by the hashes in the indices. Raises `DataError` where there is none."""
        wanted = np.uint64(id_hash(document_id))
        for shard in range(len(self.shard_documents)):
            for number in np.flatnonzero(self.index(shard).ids == wanted).tolist():
                document = self.read(shard, number)
                if document.id == document_id:
                    return document
        raise DataError(f"{self.folder}: no document has the id {document_id!r}")

    def read(self, shard: int, number: int) -> Document:
        """Document `number` of shard `shard`."""
        members = self._members(shard, number)
        try:
            return from_record(decode_json(members.pop("json")), members)
        except DataError as problem:
            raise DataError(f"{self._where(shard, number)}: {problem}") from None

    def part(self, shard: int, number: int, place: int) -> tuple[str, Part]:
        """(Document's id, its part `place`). Of a document of more than `WHOLE` bytes only the record and that part are read;
        its checksum is then not compared. Raises `DataError` as `read`, IndexError where there is no such part."""
        start, end = self.index(shard).offsets[number : number + 2].tolist()
        if end - start <= WHOLE:
            document = self.read(shard, number)
            return document.id, document.parts[place]
        key = sample_key(self.manifest.shards[shard].name, number)
        try:

            def read(offset: int, size: int) -> bytes:
                return self._span(shard, start + offset, start + offset + size)

            record = decode_json(find_member(read, end - start, key, "json"))
            entry = record["parts"][place]
            member = entry.get("member")
            members = {member: find_member(read, end - start, key, member)} if member else {}
            document = from_record({**record, "parts": [entry]}, members)
            return document.id, document.parts[0]
        except (OSError, KeyError, TypeError, AttributeError, DataError) as problem:
            raise DataError(f"{self._where(shard, number)}: {problem}") from None

    def records(self) -> Iterator[dict]:
        """The JSON of every document, in order, without its pictures and recordings; checksums are not compared."""
        for shard, entry in enumerate(self.manifest.shards):
            for number in range(entry.documents):
                start, end = self.index(shard).offsets[number : number + 2].tolist()

                def read(offset: int, size: int, shard: int = shard, start: int = start) -> bytes:
                    return self._span(shard, start + offset, start + offset + size)

                try:
                    yield decode_json(find_member(read, end - start, sample_key(entry.name, number), "json"))
                except (OSError, DataError) as problem:
                    raise DataError(f"{self._where(shard, number)}: {problem}") from None

    def __iter__(self) -> Iterator[Document]:
        return (self[number] for number in range(len(self)))


class TokenShards(_Shards[TokenManifest]):
    """The token sequences of a set written by `TokenShardWriter`; raises as `DocumentShards` does.

    `vocabulary` is the one the set was written with; where one is given and differs, `VocabularyError` names both sides.
    """

    def __init__(self, folder: Path | str, vocabulary: Vocabulary | None = None, cache: Cache | None = None) -> None:
        super().__init__(folder, TokenManifest, cache)
        try:
            content = self._read(VOCABULARY_FILE)
        except DataError as problem:
            raise VocabularyError(str(problem)) from None
        self.vocabulary = Vocabulary.parse(content, self.store.path(VOCABULARY_FILE))
        if self.vocabulary.fingerprint != self.manifest.vocabulary:
            raise VocabularyError(f"{self.folder}: vocabulary.json is not the vocabulary that the manifest names")
        if vocabulary is not None:
            check_same(self.vocabulary, str(self.folder), vocabulary, "the vocabulary it is to be read with")

    @cached_property
    def modality_counts(self) -> np.ndarray:
        """int64 [documents, 4]: tokens by modality; reads every index."""
        indices = (self.index(shard) for shard in range(len(self.shard_documents)))
        counts = [np.zeros((0, len(MODALITIES)), dtype=np.int64), *(index.counts for index in indices)]
        return np.concatenate(counts).astype(np.int64)

    @property
    def lengths(self) -> np.ndarray:
        """int64 [documents]: tokens of each; reads every index."""
        return self.modality_counts.sum(axis=1)

    def __getitem__(self, number: int) -> TokenDocument:
        return self.read(*self._place(number))

    def read(self, shard: int, number: int) -> TokenDocument:
        """Document `number` of shard `shard`."""
        members = self._members(shard, number)
        try:
            return from_members(members, self.vocabulary)
        except DataError as problem:
            raise DataError(f"{self._where(shard, number)}: {problem}") from None

    def __iter__(self) -> Iterator[TokenDocument]:
        return (self[number] for number in range(len(self)))
