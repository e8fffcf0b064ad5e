"""What is compared in place of documents: hashes of content, MinHash signatures of text, perceptual hashes of pictures."""

import hashlib
import re
from dataclasses import dataclass

import numpy as np

from mmpt.data.extra import need
from mmpt.document import Document, Image, Text
from mmpt.errors import DataError
from mmpt.media import decode_image

PERMUTATIONS = 128
SCHEME = "affine32"


@dataclass(frozen=True)
class Signature:
    """`content`: SHA-256 of all parts. `text` uint64 [128]: MinHash (Broder 1997) of the word n-grams, None where there are too
    few words. `pictures`: (place, 64-bit phash) of each picture that can be decoded, `others`: SHA-256 of all speech and pictures
    that cannot, b"" where there are none."""

    id: str
    source: str
    content: bytes
    text: np.ndarray | None
    pictures: tuple[tuple[int, int], ...]
    others: bytes = b""


def signature(document: Document, ngram: int, min_words: int) -> Signature:
    """The signature of a document; its text is all text parts, lowercased, words without punctuation."""
    digest = hashlib.sha256()
    for part in document.parts:
        content = part.text.encode("utf-8", "surrogatepass") if isinstance(part, Text) else part.data
        # With kind and length in front, two lists of parts never have the same bytes.
        digest.update(f"{type(part).__name__} {len(content)} ".encode() + content)
    words = re.findall(r"\w+", " ".join(part.text for part in document.parts if isinstance(part, Text)).lower())
    text = _minhash(words, ngram) if len(words) >= min_words else None
    pictures, others = [], []
    for place, part in enumerate(document.parts):
        if isinstance(part, Text):
            continue
        try:
            if isinstance(part, Image):
                pictures.append((place, perceptual_hash(part.data)))
                continue
        except DataError:
            pass  # what cannot be decoded looks like nothing else
        others.append(hashlib.sha256(part.data).digest())
    rest = hashlib.sha256(b"".join(others)).digest() if others else b""
    return Signature(document.id, document.source, digest.digest(), text, tuple(pictures), rest)


def perceptual_hash(data: bytes) -> int:
    """imagehash's phash: signs of the 8 × 8 lowest frequencies of the picture at 32 × 32, 64 bits. Raises `DataError`."""
    bits = need("imagehash").phash(decode_image(data)).hash.ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _minhash(words: list[str], ngram: int) -> np.ndarray:
    size = min(ngram, len(words))
    shingles = {" ".join(words[start : start + size]).encode() for start in range(len(words) - size + 1)}
    minhash = need("datasketch").MinHash(num_perm=PERMUTATIONS, scheme=SCHEME)
    minhash.update_batch(sorted(shingles))
    return minhash.hashvalues.astype(np.uint64)


def near_pairs(hashes: np.ndarray, distance: int) -> np.ndarray:
    """Pairs int64 [pairs, 2] of places in `hashes` uint64 [n] (all different) that differ in at most `distance` bits.

    Of `distance` + 1 bands of bits, one is equal in such a pair (the pigeonhole principle), so only pairs that share a band are
    compared.
    """
    if not len(hashes):
        return np.zeros((0, 2), dtype=np.int64)
    edges = np.linspace(0, 64, distance + 2).round().astype(int)
    found = [np.zeros((0, 2), dtype=np.int64)]
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        # Sorted by this band, hashes that share it stand together: only within such a run are they compared.
        band = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order], prepend=band[order][:1] ^ np.uint64(1)))
        for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
            members = order[start:end]
            for at in range(len(members) - 1):
                others = members[at + 1 :]
                near = others[np.bitwise_count(hashes[others] ^ hashes[members[at]]) <= distance]
                if len(near):
                    found.append(np.stack([np.full(len(near), members[at]), near], axis=1))
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)  # a pair that shares several bands was found in each
