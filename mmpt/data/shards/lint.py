"""Every check of a shard set that opening it leaves out: hashes of all files, and each sample decoded to the last byte."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmpt.data.shards.index import Index, id_hash
from mmpt.data.shards.manifest import (
    Manifest,
    ShardEntry,
    TokenManifest,
    check_index,
    check_size,
    index_name,
    read_manifest,
)
from mmpt.data.shards.sample import decode_json, sample_key
from mmpt.data.shards.scores import FOLDER as SCORES
from mmpt.data.shards.scores import score_problems
from mmpt.data.shards.tokens import check_counts, from_members
from mmpt.data.store import Store
from mmpt.document import Document, Image, Speech, Text, from_record
from mmpt.errors import DataError, VocabularyError
from mmpt.media import decode_image, decode_speech
from mmpt.storage import MANIFEST
from mmpt.vocabulary import FILE as VOCABULARY_FILE
from mmpt.vocabulary import Vocabulary

DURATION_TOLERANCE = 0.1
"""Seconds by which a recorded duration may differ from the decoded one: MP3 frames and encoder delay are not exact."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with a file of the set (`shard`, its name) or, where `key` is not empty, with one sample in it."""

    shard: str
    key: str
    reason: str


def lint(folder: str | Path) -> list[Problem]:
    """Everything wrong with the shard set in `folder`, path or URL; none means that every byte and every sample is as promised.

    Raises `DataError` only where there is no set to examine: no folder, or a manifest that is missing or of another format.
    """
    manifest = read_manifest(folder)
    store = Store(folder)
    problems = _check_files(store, manifest)
    vocabulary = None
    if isinstance(manifest, TokenManifest):
        try:
            vocabulary = Vocabulary.parse(store.read(VOCABULARY_FILE), store.path(VOCABULARY_FILE))
        except (DataError, VocabularyError) as problem:
            return [*problems, Problem(VOCABULARY_FILE, "", str(problem))]
        if vocabulary.fingerprint != manifest.vocabulary:
            problems.append(Problem(VOCABULARY_FILE, "", "not the vocabulary that the manifest names"))
    ids: dict[str, str] = {}
    for shard in manifest.shards:
        problems += _check_shard(store, manifest, shard, vocabulary, ids)
    return problems


def _check_files(store: Store, manifest: Manifest) -> list[Problem]:
    problems = []
    hashes = {name: entry.sha256 for name, entry in manifest.files.items()}
    for shard in manifest.shards:
        if hashes.get(shard.name) != shard.sha256:
            problems.append(Problem(shard.name, "", f"the two hashes of it in {MANIFEST} differ"))
    found = store.files()
    for name, expected in hashes.items():
        if store.is_local and Path(store.path(name)).is_symlink():
            problems.append(Problem(name, "", "a link"))
        elif name not in found:
            problems.append(Problem(name, "", "missing"))
        elif store.sha256(name) != expected:
            problems.append(Problem(name, "", f"differs from the hash in {MANIFEST}"))
    for name in found:
        if name != MANIFEST and name not in hashes and not name.startswith(f"{SCORES}/"):
            problems.append(Problem(name, "", f"not in {MANIFEST}"))
    return [*problems, *(Problem(name, "", reason) for name, reason in score_problems(store, manifest.shards))]


def _check_shard(
    store: Store, manifest: Manifest, shard: ShardEntry, vocabulary: Vocabulary | None, ids: dict[str, str]
) -> list[Problem]:
    """Problems of one shard; `ids` maps each document id met so far to its key."""
    name = shard.name
    problems = []
    try:
        file = index_name(name)
        index = check_index(store.read(file), manifest.files, shard, store.path(file))
        check_size(store, shard)
    except DataError as problem:
        return [Problem(name, "", f"its samples cannot be examined: {problem}")]
    data = _samples(store, name, index)
    for number in range(len(index)):
        key = sample_key(name, number)
        try:
            document_id = _check_sample(index, name, number, next(data), vocabulary)
            if id_hash(document_id) != index.ids[number]:
                raise DataError(f"document id {document_id!r} does not match the hash in the index")
            if document_id in ids:
                raise DataError(f"document id {document_id!r} is also that of sample {ids[document_id]}")
            ids[document_id] = key
        except DataError as problem:
            problems.append(Problem(name, key, str(problem)))
    return problems


def _samples(store: Store, name: str, index: Index) -> Iterator[bytes]:
    """The bytes of each sample in order; the tar is read once."""
    chunks, waiting, begin = store.chunks(name), bytearray(), 0
    for start, end in zip(index.offsets.tolist(), index.offsets[1:].tolist(), strict=False):
        del waiting[: start - begin]
        begin = start
        while len(waiting) < end - start:
            waiting += next(chunks)
        yield bytes(waiting[: end - start])


def _check_sample(index: Index, shard: str, number: int, data: bytes, vocabulary: Vocabulary | None) -> str:
    """Decode a sample to the last byte and return its document id. Raises `DataError`."""
    members = index.decode(shard, number, data)
    counts = index.counts[number]
    if vocabulary is not None:
        document = from_members(members, vocabulary)
        parts = slice(index.part_starts[number], index.part_starts[number + 1])
        table = np.stack([index.part_lengths[parts], index.part_kinds[parts]], axis=1)
        check_counts(document, vocabulary, counts, table)
        return document.id
    document = from_record(decode_json(members.pop("json")), members)
    found = [sum(isinstance(part, kind) for part in document.parts) for kind in (Text, Image, Speech)]
    if found != counts.tolist():
        raise DataError(f"{found} parts of text, image and speech, the index says {counts.tolist()}")
    _check_media(document)
    return document.id


def _check_media(document: Document) -> None:
    for place, part in enumerate(document.parts):
        try:
            if isinstance(part, Image):
                size = decode_image(part.data).size
                # A camera's orientation tag may turn the picture, so either order is right.
                if sorted(size) != sorted((part.width, part.height)):
                    raise DataError(f"a picture of {size[0]} x {size[1]} pixels, recorded as {part.width} x {part.height}")
            elif isinstance(part, Speech):
                if part.sample_rate <= 0:
                    raise DataError(f"sample_rate is {part.sample_rate}")
                seconds = len(decode_speech(part.data, part.sample_rate)) / part.sample_rate
                if abs(seconds - part.duration) > DURATION_TOLERANCE:
                    raise DataError(f"{seconds:.2f} s of audio, recorded as {part.duration:.2f} s")
        except DataError as problem:
            raise DataError(f"part {place}: {problem}") from None
