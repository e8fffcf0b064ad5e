"""MinHash of texts in batches: all words of a few hundred documents at once, by numpy alone."""

import hashlib
import re
from collections.abc import Sequence
from itertools import chain

import numpy as np

HASHES = 128
"""MinHash values of a text at most."""
RECALL = 0.98
"""Share of the pairs just alike enough that meet in at least one band."""
MEMORY = 1 << 20
"""Words whose hashes a process remembers."""
_BASE = np.uint64(0x9E3779B97F4A7C15 | 1)


def bands_for(threshold: float) -> tuple[int, int]:
    """(Bands, values of each) of `HASHES` at most: the longest bands of which one is equal with `RECALL` at that Jaccard
    similarity.

    Two sets of similarity s have r equal MinHash values with probability s^r (Broder 1997), so of b bands
    one is equal with 1 - (1 - s^r)^b.
    """
    for rows in range(HASHES, 1, -1):
        bands = HASHES // rows
        if 1 - (1 - threshold**rows) ** bands >= RECALL:
            return bands, rows
    return HASHES, 1


def mix(values: np.ndarray) -> np.ndarray:
    """uint64 → uint64, one to one, every bit of the result by all of the input (the finaliser of MurmurHash3)."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))


def hash_bytes(data: bytes) -> int:
    """The first 64 bits of BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def words_of(text: str) -> list[str]:
    """Lowercased words, without punctuation."""
    return re.findall(r"\w+", text.lower())


class WordHashes(dict[str, int]):
    """Word → 64-bit hash, remembered: few words make up most of any text (Zipf)."""

    def __missing__(self, word: str) -> int:
        if len(self) >= MEMORY:
            self.clear()
        self[word] = found = hash_bytes(word.encode("utf-8", "surrogatepass"))
        return found


def shingles(texts: Sequence[Sequence[str]], ngram: int, known: WordHashes) -> tuple[np.ndarray, np.ndarray]:
    """(uint32 hashes of the word n-grams of each text, sorted, each once, text after text; int64 [texts + 1] where each begins).

    A text of fewer words is one n-gram of all of them; one of none has none.
    """
    lengths = np.array([len(words) for words in texts], dtype=np.int64)
    hashes = np.fromiter(map(known.__getitem__, chain.from_iterable(texts)), dtype=np.uint64, count=int(lengths.sum()))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    rolled = np.zeros_like(hashes)
    with np.errstate(over="ignore"):
        for at in range(min(ngram, len(hashes))):  # polynomials in _BASE, modulo 2^64; those over a text's end are cut below
            rolled[: len(hashes) - at] = rolled[: len(hashes) - at] * _BASE + hashes[at:]
        owners = np.repeat(np.arange(len(texts), dtype=np.uint64), lengths)
        left = np.repeat(starts[1:], lengths) - np.arange(len(hashes))
        whole = left >= ngram
        owners, rolled = owners[whole], rolled[whole]
        short = np.flatnonzero((lengths > 0) & (lengths < ngram))
        of_short = np.zeros(len(short), dtype=np.uint64)
        for number, text in enumerate(short.tolist()):
            for value in hashes[starts[text] : starts[text + 1]]:
                of_short[number] = of_short[number] * _BASE + value
        owners, rolled = np.concatenate([owners, short.astype(np.uint64)]), mix(np.concatenate([rolled, of_short]))
    both = owners << np.uint64(32) | rolled >> np.uint64(32)
    both.sort()
    both = both[np.concatenate([np.ones(min(1, len(both)), dtype=bool), both[1:] != both[:-1]])]
    bounds = np.searchsorted(both, np.arange(len(texts) + 1, dtype=np.uint64) << np.uint64(32))
    return both.astype(np.uint32), bounds


def band_keys(values: np.ndarray, bounds: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """uint64 [texts, bands]: a hash of the MinHash values of each band, of `shingles`; 0 where a text has none.

    Value k is the least of (a_k x + b_k) / 2^32 modulo 2^32 over the shingles x, a 2-independent family (Dietzfelbinger 1996).
    """
    keys = np.zeros((len(bounds) - 1, bands), dtype=np.uint64)
    there = np.flatnonzero(np.diff(bounds))
    if not len(there):
        return keys
    wide, starts = values.astype(np.uint64), bounds[:-1][there]
    room = np.empty_like(wide)
    factors = np.random.Generator(np.random.PCG64(1)).integers(0, 2**64, (2, bands * rows), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for band in range(bands):
            key = np.full(len(there), band + 1, dtype=np.uint64)
            for k in range(band * rows, band * rows + rows):
                np.multiply(wide, factors[0, k] | np.uint64(1), out=room)
                np.add(room, factors[1, k], out=room)
                key = mix(key * _BASE + (np.minimum.reduceat(room, starts) >> np.uint64(32)))
            keys[there, band] = np.maximum(key, 1)
    return keys


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Shared ÷ all of two sorted sets; 0 of two empty ones."""
    if not len(one) or not len(other):
        return 0.0
    both = np.concatenate([one, other])
    both.sort()
    shared = int((both[1:] == both[:-1]).sum())
    return shared / (len(both) - shared)
