"""Fingerprints of recordings that stay alike through another codec, rate or loudness (Haitsma and Kalker 2002, "A Highly Robust
Audio Fingerprinting System", ISMIR)."""

import numpy as np

from mmpt.data.curate.copies.minhash import mix
from mmpt.document import Speech
from mmpt.errors import DataError
from mmpt.media import decode_speech

RATE = 5512
"""Samples a second that are looked at."""
FRAME, HOP = 2048, 64
"""Samples of a frame, 0.37 s, and from one to the next: frames overlap by 31/32."""
EDGES = np.geomspace(300, 2000, 34)
"""Hertz between which the 33 bands lie."""
LEAST = 32
"""Sub-fingerprints, 0.37 s more than as many hops, below which a recording has none."""
KEYS = 32
"""Of a recording."""
OVERLAP = 0.8
"""Share of the longer recording that both have."""
CHUNK = 4096


def sound_print(part: Speech) -> np.ndarray:
    """uint32 [frames - 1]: bit m is set where the difference of the bands m and m + 1 grew from one frame to the next.

    Raises `DataError` where it cannot be decoded or is too short.
    """
    samples = decode_speech(part.data, RATE)
    frames = (len(samples) - FRAME) // HOP + 1
    if frames <= LEAST:
        raise DataError("too short to have a fingerprint")
    window = np.hanning(FRAME).astype(np.float32)
    edges = np.round(EDGES * FRAME / RATE).astype(int)
    energy = []
    for start in range(0, frames, CHUNK):
        views = np.lib.stride_tricks.sliding_window_view(samples[start * HOP :], FRAME)[::HOP][: min(CHUNK, frames - start)]
        power = np.abs(np.fft.rfft(views * window, axis=1)) ** 2
        energy.append(np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1))
    slope: np.ndarray = np.diff(np.concatenate(energy), axis=1)
    bits = np.less(slope[1:], slope[:-1])  # E(n, m) - E(n, m + 1) is minus the slope
    return np.packbits(bits, axis=1, bitorder="little").view("<u4")[:, 0].astype(np.uint32)


def sound_keys(prints: np.ndarray) -> np.ndarray:
    """uint64 [KEYS]: MinHash values of its sub-fingerprints. One that a thirtieth of them survive in still shares one in two
    times out of three; silence, whose bits are all alike, is in no bucket."""
    values = np.unique(prints).astype(np.uint64)
    values = values[(values != 0) & (values != 0xFFFFFFFF)]
    if not len(values):
        return np.zeros(KEYS, dtype=np.uint64)
    return np.array([max(int(mix(values + np.uint64((k + 1) << 32)).min()), 1) for k in range(KEYS)], dtype=np.uint64)


def sound_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Share of the bits that differ where the two lie over each other best; 1 where they share too little of their length."""
    values, places = np.unique(other, return_index=True)
    at = np.minimum(np.searchsorted(values, one), len(values) - 1)
    same = np.flatnonzero(values[at] == one)
    if not len(same):
        return 1.0
    shifts, votes = np.unique(places[at[same]] - same, return_counts=True)
    shift = int(shifts[votes.argmax()])
    start, end = max(0, -shift), min(len(one), len(other) - shift)
    if end - start < OVERLAP * max(len(one), len(other)):
        return 1.0
    return float(np.bitwise_count(one[start:end] ^ other[start + shift : end + shift]).mean() / 32)
