"""Codes of audio that is still coming in: those that later audio can no longer change, made from the audio they depend on."""

import math
from collections.abc import Callable

import numpy as np

from mmpt.errors import DataError
from mmpt.tokenizers.speech.windows import Context, Window, window_for


class SpeechStream:
    """`push` takes samples and gives codes; `finish` gives the rest. All of them together are those of the whole audio.

    Nothing is kept but the samples that codes still to come depend on: each piece is computed anew from them, which costs
    `context.left` codes more for each call. So push in steps of a block or more.
    """

    def __init__(self, samples_per_code: int, context: Context, codes: Callable[[np.ndarray], np.ndarray]) -> None:
        """`codes` gives the codes [n] or [n, depth] of samples from the beginning of a code on."""
        self._per_code, self._context, self._codes = samples_per_code, context, codes
        self._kept = np.zeros(0, dtype=np.float32)
        self._dropped = 0  # samples before those that are kept
        self._made = 0  # codes given so far
        self._finished = False

    @property
    def latency(self) -> float:
        """The longest that a sample waits for its code, in samples: what is left of its block, and what that depends on."""
        return self._context.block * self._per_code + self._context.right

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Codes int64 [n] (n may be 0) that have become final with `samples`, float32 [any length] at 16 kHz.

        Raises `DataError` where these are no sound; the stream is then as before.
        """
        if self._finished:
            raise DataError("the stream is finished")
        if not isinstance(samples, np.ndarray) or len(samples):
            self._kept = np.concatenate([self._kept, checked(samples, "samples")])
        total = self._dropped + len(self._kept)
        final = max(0, total - self._context.right) // self._per_code
        return self._make(final // self._context.block * self._context.block, total)

    def finish(self) -> np.ndarray:
        """The codes that were still open, int64 [n]. Of a stream without a sample, none."""
        self._finished = True
        total = self._dropped + len(self._kept)
        return self._make(math.ceil(total / self._per_code), total)

    def _make(self, last: int, total: int) -> np.ndarray:
        if last <= self._made:
            return np.zeros(0, dtype=np.int64)
        window = window_for(self._made, last, total, self._per_code, self._context)
        found = wanted(self._codes(self._kept[window.start - self._dropped : window.end - self._dropped]), window)
        self._made = last
        needed = self._context.start(last) * self._per_code
        self._kept = self._kept[needed - self._dropped :]
        self._dropped = needed
        return found.reshape(-1)


def wanted(rows: np.ndarray, window: Window) -> np.ndarray:
    """Of what a window gives [codes, ...], what it was made for."""
    return rows[window.first - window.origin : window.last - window.origin]


def checked(samples: np.ndarray, name: str) -> np.ndarray:
    """`samples` if they are sound: float32 in one dimension, at least one, all finite. Raises `DataError` otherwise."""
    if not isinstance(samples, np.ndarray) or samples.dtype != np.float32 or samples.ndim != 1:
        found = f"{samples.dtype} {samples.shape}" if isinstance(samples, np.ndarray) else type(samples).__name__
        raise DataError(f"{name}: expected a float32 array in one dimension, found {found}")
    if not len(samples):
        raise DataError(f"{name}: not a single sample")
    if not np.isfinite(samples).all():
        raise DataError(f"{name}: holds NaN or infinity")
    return samples
