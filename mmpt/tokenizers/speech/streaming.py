"""Codes of audio that is still coming in, and sound of codes that are: what later ones can no longer change, made from what it
depends on."""

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from mmpt.codebooks import FrameReader, FrameWriter
from mmpt.errors import DataError
from mmpt.tokenizers.speech.vocoder import VocoderModule
from mmpt.tokenizers.speech.windows import Context, Window, window_for

R = TypeVar("R", np.ndarray, torch.Tensor)


class SpeechStream:
    """`push` takes samples and gives codes; `finish` gives the rest. All of them together are those of the whole audio.

    Nothing is kept but the samples that codes still to come depend on: each piece is computed anew from them, which costs
    `context.left` codes more for each call. So push in steps of a block or more.
    """

    def __init__(
        self, samples_per_code: int, context: Context, frames: Callable[[np.ndarray], np.ndarray], writer: FrameWriter
    ) -> None:
        """`frames` gives the frames [n, depth] of samples from the beginning of one on, `writer` their codes in order."""
        self._per_code, self._context, self._frames, self._writer = samples_per_code, context, frames, writer
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
        # A code is final once all that it looks ahead at is there; a block, once its last code is.
        final = max(0, total - self._context.right) // self._per_code
        return self._make(final // self._context.block * self._context.block, total)

    def finish(self) -> np.ndarray:
        """The codes that were still open, int64 [n]. Of a stream without a sample, none."""
        self._finished = True
        total = self._dropped + len(self._kept)
        return np.concatenate([self._make(math.ceil(total / self._per_code), total), self._writer.finish()])

    def _make(self, last: int, total: int) -> np.ndarray:
        found = [np.zeros(0, dtype=np.int64)]
        while self._made < last:
            end = self._context.run(self._made, last)
            window = window_for(self._made, end, total, self._per_code, self._context)
            frames = self._frames(self._kept[window.start - self._dropped : window.end - self._dropped])
            found.append(self._writer.push(wanted(frames, window)))
            self._made = end
            # Only what the next code looks back at is kept.
            needed = self._context.start(end) * self._per_code
            self._kept = self._kept[needed - self._dropped :]
            self._dropped = needed
        return np.concatenate(found)


class WaveStream:
    """`push` takes codes and gives samples; `finish` gives the rest. All of them together are the sound of all the codes.

    Kept are the codes and the frames that sound still to come depends on.
    """

    def __init__(
        self,
        frames_per_code: int,
        codes: FrameReader,
        reach: tuple[int, int],
        block: int,
        mel: Callable[[np.ndarray, int], torch.Tensor],
        vocoder: VocoderModule,
    ) -> None:
        """`mel` gives the log-mel of frames of codes, the first of which has the position it is told."""
        self._vocoder_reach = vocoder.reach
        self._per_code, self._read, self._reach, self._block = frames_per_code, codes, reach, block
        self._mel, self._vocoder = mel, vocoder
        self._codes: list[np.ndarray] = []  # those that are kept, in one array each push
        self._dropped = 0  # codes before them
        self._made = 0  # codes whose frames are final
        self._frames = torch.zeros(0)
        self._frames_dropped = 0
        self._spoken = 0  # frames whose samples were given
        self._finished = False

    @property
    def silent(self) -> int:
        """How many codes more, at least, give no sound yet."""
        return max(0, self._read.needed(self._made + self._block + self._reach[1] - self._total()) - 1)

    def push(self, codes: np.ndarray) -> np.ndarray:
        """Samples float32 [n] (n may be 0) that have become final with `codes` (int [any number])."""
        if self._finished:
            raise DataError("the stream is finished")
        try:
            self._read.push(codes)
        except ValueError as problem:
            raise DataError(str(problem)) from None
        if self._read.count:
            self._codes.append(self._read.take(self._read.count))
        final = max(0, self._total() - self._reach[1]) // self._block * self._block
        self._extend(final)
        # Samples of the last frames still change: the vocoder looks at frames that are yet to come.
        return self._speak(max(0, final * self._per_code - self._vocoder_reach))

    def finish(self) -> np.ndarray:
        """The samples that were still open, float32 [n]."""
        self._finished = True
        self._extend(self._total())
        return self._speak(self._total() * self._per_code)

    def _total(self) -> int:
        return self._dropped + sum(map(len, self._codes))

    def _extend(self, final: int) -> None:
        if final <= self._made:
            return
        # Frames are made anew of the kept codes, with what they look ahead at, and those that were made before are dropped.
        kept = np.concatenate(self._codes)
        end = min(self._total(), final + self._reach[1]) - self._dropped
        mel = self._mel(kept[:end], self._dropped)
        new = mel[(self._made - self._dropped) * self._per_code : (final - self._dropped) * self._per_code]
        self._frames = torch.cat([self._frames.reshape(-1, mel.shape[1]), new])
        self._made = final
        # Blocks and the noise of frames are counted from the beginning of the whole: what is kept begins with a block.
        start = max(0, final - self._reach[0]) // self._block * self._block
        self._codes, self._dropped = [kept[start - self._dropped :]], start

    def _speak(self, final: int) -> np.ndarray:
        if final <= self._spoken:
            return np.zeros(0, dtype=np.float32)
        hop, end = self._vocoder.hop, min(final + self._vocoder_reach, self._made * self._per_code)
        samples = self._vocoder.speak(self._frames[: end - self._frames_dropped]).cpu().numpy()
        new = samples[(self._spoken - self._frames_dropped) * hop : (final - self._frames_dropped) * hop]
        self._spoken = final
        # Frames are kept from a multiple of the period on, so that phases of the next piece continue those of this one.
        start = max(0, final - self._vocoder_reach) // self._vocoder.period * self._vocoder.period
        self._frames, self._frames_dropped = self._frames[start - self._frames_dropped :], start
        return new


def wanted(rows: R, window: Window) -> R:
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
