"""What is compared in place of documents, shard by shard on disk: hashes of content, n-grams of text, hashes of pictures and
sounds."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pydantic

from mmpt.config import Schema
from mmpt.data.curate.copies.buckets import Member, name_of, read_array, read_span, write_keys
from mmpt.data.curate.copies.minhash import WordHashes, band_keys, hash_bytes, mix, shingles, words_of
from mmpt.data.curate.copies.sounds import sound_keys, sound_print
from mmpt.data.extra import need
from mmpt.data.store import Store
from mmpt.document import Document, Image, Speech, Text
from mmpt.errors import DataError
from mmpt.media import decode_image

BATCH = 256
"""Documents whose texts are hashed at once."""
WORDS = 200_000
"""Words above which a batch is not filled up."""
DOCUMENTS, SOUNDS = "documents", "sounds"
ROW = np.dtype([
    ("content", "<u8", 4), ("source", "<u8"), ("others", "<u8"), ("heap", "<u8"), ("pictures", "<u4"), ("shingles", "<u4"),
    ("media", "<u4"),
])  # fmt: skip
"""Of a document: SHA-256 of all parts, hash of its source and of the speech and pictures that are compared by their bytes; where
its heap begins, which holds so many hashes of pictures and n-grams; how many pictures and recordings it has."""
SOUND_ROW = np.dtype([("document", "<u4"), ("place", "<u4"), ("heap", "<u8"), ("prints", "<u4"), ("seconds", "<f4")])
"""Of a recording: document and part, where its fingerprint begins in the heap and how long it is."""
PICTURE = np.dtype([("document", "<u4"), ("place", "<u4"), ("hash", "<u8")])


class SigningSettings(Schema):
    """What signatures depend on: sets are compared that were signed alike."""

    ngram: int = pydantic.Field(default=13, ge=1)
    """Words of an n-gram (13 in SlimPajama)."""
    min_words: int = pydantic.Field(default=20, ge=1)
    """Texts of fewer words are not compared."""
    scope: str = "global"
    """source: documents of different sources are in no bucket together."""
    bands: int = 0
    """Bands of MinHash values; 0: texts are not compared."""
    rows: int = 0
    """Values of a band."""
    pictures: bool = True
    """Whether pictures have perceptual hashes; else their bytes count."""
    sounds: bool = False
    """Whether recordings have fingerprints; else their bytes count."""

    @property
    def keys(self) -> int:
        """Keys of a document: its content, the set of its n-grams, then its bands."""
        return 2 + self.bands


@dataclass
class _Signed:
    """What was found in the documents of a shard so far."""

    rows: list[np.ndarray] = field(default_factory=list)
    keys: list[np.ndarray] = field(default_factory=list)
    heap: list[bytes] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    pictures: list[tuple[int, int, int]] = field(default_factory=list)
    sounds: list[tuple[int, int, int, int, float]] = field(default_factory=list)
    sound_keys: list[np.ndarray] = field(default_factory=list)
    sound_heap: list[bytes] = field(default_factory=list)
    hashes: dict[bytes, int] = field(default_factory=dict)
    at: int = 0
    sound_at: int = 0


def sign_shard(config: SigningSettings, store: Store, shard: int, documents: Iterable[Document]) -> None:
    """Write the files of a shard."""
    known, found = WordHashes(), _Signed()
    batch: list[_Looked] = []
    count = 0
    for number, document in enumerate(documents):
        batch.append(_look(document, number, config, found))
        count += len(batch[-1].words)
        if len(batch) == BATCH or count > WORDS:
            _add(batch, config, known, found)
            batch, count = [], 0
    _add(batch, config, known, found)
    store.write(name_of(shard, DOCUMENTS, "heap"), b"".join(found.heap))
    store.write(name_of(shard, DOCUMENTS, "rows"), b"".join(one.tobytes() for one in found.rows))
    store.write(name_of(shard, DOCUMENTS, "ids"), json.dumps(found.ids).encode())
    store.write(name_of(shard, "pictures", "rows"), np.array(found.pictures, dtype=PICTURE).tobytes())
    if config.sounds:
        store.write(name_of(shard, SOUNDS, "heap"), b"".join(found.sound_heap))
        store.write(name_of(shard, SOUNDS, "rows"), np.array(found.sounds, dtype=SOUND_ROW).tobytes())
        write_keys(store, shard, SOUNDS, np.concatenate([sound_keys(np.zeros(0, np.uint32))[None, :][:0], *found.sound_keys]))
    write_keys(store, shard, DOCUMENTS, np.concatenate([np.zeros((0, config.keys), np.uint64), *found.keys]))


class _Looked(NamedTuple):
    id: str
    source: int
    content: bytes
    words: list[str]
    pictures: list[int]
    others: int
    media: int


def _look(document: Document, number: int, config: SigningSettings, found: _Signed) -> _Looked:
    digest = hashlib.sha256()
    for part in document.parts:
        content = part.text.encode("utf-8", "surrogatepass") if isinstance(part, Text) else part.data
        # With kind and length in front, two lists of parts never have the same bytes.
        digest.update(f"{type(part).__name__} {len(content)} ".encode() + content)
    words = words_of(" ".join(part.text for part in document.parts if isinstance(part, Text))) if config.bands else []
    pictures, others = [], []
    media = 0
    for place, part in enumerate(document.parts):
        if isinstance(part, Text):
            continue
        media += 1
        try:
            if isinstance(part, Image) and config.pictures:
                key = hashlib.sha256(part.data).digest()  # a site's logo is decoded once
                if key not in found.hashes:
                    found.hashes[key] = perceptual_hash(part.data)
                pictures.append(found.hashes[key])
                found.pictures.append((number, place, pictures[-1]))
                continue
            if isinstance(part, Speech) and config.sounds:
                prints = sound_print(part)
                found.sounds.append((number, place, found.sound_at, len(prints), part.duration))
                found.sound_keys.append(sound_keys(prints)[None, :])
                found.sound_heap.append(prints.astype("<u4").tobytes())
                found.sound_at += 4 * len(prints)
                continue
        except DataError:
            pass  # what cannot be decoded is like nothing else
        others.append(hashlib.sha256(part.data).digest())
    source = hash_bytes(document.source.encode("utf-8", "surrogatepass"))
    rest = hash_bytes(b"".join(others)) if others else 0
    return _Looked(document.id, source, digest.digest(), words, pictures, rest, media)


def _add(batch: Sequence[_Looked], config: SigningSettings, known: WordHashes, found: _Signed) -> None:
    if not batch:
        return
    texts = [one.words if len(one.words) >= config.min_words else [] for one in batch]
    values, bounds = shingles(texts, config.ngram, known)
    rows = np.zeros(len(batch), dtype=ROW)
    rows["content"] = np.frombuffer(b"".join(one.content for one in batch), dtype="<u8").reshape(-1, 4)
    rows["source"] = [one.source for one in batch]
    rows["others"] = [one.others for one in batch]
    rows["pictures"] = [len(one.pictures) for one in batch]
    rows["shingles"] = np.diff(bounds)
    rows["media"] = [one.media for one in batch]
    sizes = 8 * rows["pictures"].astype(np.int64) + 4 * rows["shingles"]
    rows["heap"] = found.at + np.concatenate([[0], np.cumsum(sizes)[:-1]])
    found.at += int(sizes.sum())
    keys = np.zeros((len(batch), config.keys), dtype=np.uint64)
    keys[:, 0] = np.maximum(rows["content"][:, 0], 1)
    for number, (one, start, end) in enumerate(zip(batch, bounds, bounds[1:], strict=False)):
        text = values[start:end].astype("<u4").tobytes()
        found.heap.append(np.array(one.pictures, dtype="<u8").tobytes() + text)
        found.ids.append(one.id)
        keys[number, 1] = max(hash_bytes(text), 1) if text else 0
    if config.bands:
        keys[:, 2:] = band_keys(values, bounds, config.bands, config.rows)
    if config.scope == "source":
        keys = np.where(keys == 0, keys, np.maximum(mix(keys ^ rows["source"][:, None]), np.uint64(1)))
    found.rows.append(rows)
    found.keys.append(keys)


def perceptual_hash(data: bytes) -> int:
    """imagehash's phash: signs of the 8 × 8 lowest frequencies of the picture at 32 × 32, 64 bits. Raises `DataError`."""
    bits = need("imagehash").phash(decode_image(data)).hash.ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


class Signature(NamedTuple):
    """A document as it was signed: its row, `pictures` uint64 [n], `text` uint32 [n-grams] sorted, and `group` of its media."""

    row: Any
    pictures: np.ndarray
    text: np.ndarray
    group: int


def read_signature(member: Member, number: int, groups: tuple[str, int] | None) -> Signature:
    """That of the document `number` of a shard; `groups` says where the groups of media lie, and the shard's number there."""
    start = ROW.itemsize * number
    row = read_array(member.location, name_of(member.shard, DOCUMENTS, "rows"), ROW, start, start + ROW.itemsize)[0]
    first, at = 8 * int(row["pictures"]), int(row["heap"])
    heap = read_span(member.location, name_of(member.shard, DOCUMENTS, "heap"), at, at + first + 4 * int(row["shingles"]))
    group = int(read_array(groups[0], f"{groups[1]:05d}.groups", "<u8", 8 * number, 8 * number + 8)[0]) if groups else 0
    return Signature(row, np.frombuffer(heap[:first], dtype="<u8"), np.frombuffer(heap[first:], dtype="<u4"), group)
