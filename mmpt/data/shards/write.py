"""Writers of shard sets: documents or token sequences into numbered tars, published whole by one rename."""

import hashlib
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Self

import numpy as np

from mmpt.data.shards.index import Index, encode_index, id_hash
from mmpt.data.shards.manifest import COLUMNS, COUNTED, FORMAT, Kind, index_name
from mmpt.data.shards.sample import END, encode_json, encode_sample, sample_key, shard_name
from mmpt.data.shards.tokens import TokenDocument, to_members
from mmpt.document import Document, Image, Speech, Text, from_record, to_record
from mmpt.errors import DataError, VocabularyError
from mmpt.storage import published_folder, write_bytes
from mmpt.vocabulary import Vocabulary

MAX_BYTES = 256 << 20
MAX_DOCUMENTS = 10_000


NO_PARTS = np.zeros((0, 2), np.int64)


class _Writer:
    """Appends samples to numbered tars in a temporary folder; see `ShardWriter` for what a caller is promised."""

    kind: ClassVar[Kind]

    def __init__(
        self,
        folder: Path,
        *,
        built: dict,
        max_bytes: int = MAX_BYTES,
        max_documents: int = MAX_DOCUMENTS,
        task: int | None = None,
    ) -> None:
        try:
            encode_json(built)
        except (TypeError, ValueError) as problem:
            raise DataError(f"{folder}: `built` cannot be written as JSON ({problem})") from None
        self._folder = Path(folder)
        self._max_bytes, self._max_documents = max_bytes, max_documents
        self._manifest: dict[str, Any] = {
            "format": FORMAT,
            "kind": self.kind,
            "documents": 0,
            COUNTED[self.kind]: {},
            "built": built,
        }
        self._manifest["shards"] = []
        self._seen: set[str] = set()
        self._task = () if task is None else (task,)
        self._file: BinaryIO | None = None
        self._begin_shard()

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._temporary = self._stack.enter_context(published_folder(self._folder, self._manifest))
        self._stack.push(self._finish)
        return self

    def __exit__(self, *error) -> bool | None:
        return self._stack.__exit__(*error)

    def _begin_shard(self) -> None:
        self._name = shard_name(*self._task, len(self._manifest["shards"]))
        self._offsets, self._checksums, self._ids, self._counts, self._parts = [0], [], [], [], []

    def _append(self, document_id: str, members: dict[str, bytes], counts: np.ndarray | list[int], parts: np.ndarray) -> None:
        """Append a sample; `parts` is the `part_table` of a token document, empty for another."""
        if document_id in self._seen:
            raise DataError(f"{self._folder}: document id {document_id!r} was written before")
        key = sample_key(self._name, len(self._checksums))
        data = encode_sample(key, members)
        full = len(self._checksums) >= self._max_documents or self._offsets[-1] + len(data) + len(END) > self._max_bytes
        if self._checksums and full:
            self._close_shard()
            data = encode_sample(sample_key(self._name, 0), members)  # its key says in which shard it lies
        self._put(data)
        self._offsets.append(self._offsets[-1] + len(data))
        self._checksums.append(zlib.crc32(data))
        self._ids.append(id_hash(document_id))
        self._counts.append(counts)
        self._parts.append(parts)
        self._seen.add(document_id)

    def _put(self, data: bytes) -> None:
        if self._file is None:  # a shard begins with its first document, so there is none without any
            self._file = open(self._temporary / self._name, "wb")  # noqa: SIM115
            self._hash = hashlib.sha256()
        self._file.write(data)
        self._hash.update(data)

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _close_shard(self) -> None:
        self._put(END)
        self._close_file()
        counts, parts = np.array(self._counts), np.concatenate(self._parts)
        index = Index(
            np.array(self._offsets),
            np.array(self._checksums, dtype=np.uint32),
            np.array(self._ids, dtype=np.uint64),
            counts,
            np.cumsum([0, *map(len, self._parts)]),
            parts[:, 0],
            parts[:, 1],
        )
        write_bytes(self._temporary / index_name(self._name), encode_index(index))
        self._manifest["shards"].append({
            "name": self._name,
            "sha256": self._hash.hexdigest(),
            "bytes": index.tar_bytes,
            "documents": len(index),
            COUNTED[self.kind]: dict(zip(COLUMNS[self.kind], counts.sum(axis=0).tolist(), strict=True)),
        })  # fmt: skip
        self._begin_shard()

    def _finish(self, error_type: type[BaseException] | None, *_: object) -> None:
        if error_type is not None:
            self._close_file()
            return
        if self._checksums:
            self._close_shard()
        counted, shards = COUNTED[self.kind], self._manifest["shards"]
        self._manifest["documents"] = len(self._seen)
        self._manifest[counted] = {name: sum(shard[counted][name] for shard in shards) for name in COLUMNS[self.kind]}


class ShardWriter(_Writer):
    """Context manager that writes `Document`s as the shard set `folder` (an existing one is replaced).

    A shard is closed before it would grow past `max_bytes` or `max_documents`. `built` (JSON values) says how the set was
    made; equal documents and `built` give equal bytes in every file. The set appears under its name on a clean exit, whole;
    after an error nothing does. A `write` that raises `DataError` has written nothing, and the writer may go on. `task`
    numbers one of several writers whose shards will lie together: it enters the shards' names.
    """

    kind = "documents"

    def write(self, document: Document) -> None:
        """Append a document. Raises `DataError` where its id was written before or it could not be read back."""
        try:
            record, members = to_record(document)
            from_record(record, members)
            members = {"json": encode_json(record), **members}
        except (DataError, TypeError, ValueError) as problem:
            raise DataError(f"document {document.id!r}: {problem}") from None
        counts = [sum(isinstance(part, kind) for part in document.parts) for kind in (Text, Image, Speech)]
        self._append(document.id, members, counts, NO_PARTS)


class TokenShardWriter(_Writer):
    """Context manager that writes `TokenDocument`s of one vocabulary; `vocabulary.json` lies beside. Else as `ShardWriter`."""

    kind = "tokens"

    def __init__(
        self,
        folder: Path,
        *,
        vocabulary: Vocabulary,
        built: dict,
        max_bytes: int = MAX_BYTES,
        max_documents: int = MAX_DOCUMENTS,
        task: int | None = None,
    ) -> None:
        super().__init__(folder, built=built, max_bytes=max_bytes, max_documents=max_documents, task=task)
        self._vocabulary = vocabulary
        self._manifest["vocabulary"] = vocabulary.fingerprint

    def __enter__(self) -> Self:
        super().__enter__()
        self._vocabulary.save(self._temporary)
        return self

    def write(self, document: TokenDocument) -> None:
        """Append a token sequence. Raises `DataError` (id written before, no token, bad weights) or `VocabularyError`."""
        try:
            members, counts, parts = to_members(document, self._vocabulary)
        except VocabularyError as problem:
            raise VocabularyError(f"document {document.id!r}: {problem}") from None
        except (DataError, TypeError, ValueError) as problem:
            raise DataError(f"document {document.id!r}: {problem}") from None
        self._append(document.id, members, counts, parts)
