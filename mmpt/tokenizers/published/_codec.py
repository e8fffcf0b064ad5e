"""What published speech tokenizers share: sound and codes in windows, codes in a sequence, sound in a stream."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from mmpt.codebooks import FrameReader, by_frame, in_order
from mmpt.errors import DataError
from mmpt.tokenizers.figures import SpeechFigures
from mmpt.tokenizers.speech.coder import joined
from mmpt.tokenizers.speech.streaming import checked, wanted
from mmpt.tokenizers.speech.windows import Context, windows

_TOGETHER = 4  # windows of equal length: the first convolution of 30 s at 24 kHz takes 180 MB each


class SpeechCodec(nn.Module):
    """Waveforms ↔ sequences of codes by a published model; the same codes as its own library gives.

    What is longer than `window` frames is taken in windows; `hears` and `speaks` say how many frames before and after its own a
    frame is encoded, and decoded, with.
    """

    silent = ""
    """Why it makes no sound, of one that only encodes."""
    one_voice = "the codes of this tokenizer hold the voice"
    """Why none can be chosen."""
    together = 5
    """Frames at least of which a stream makes sound at once: at 12.5 Hz, 0.4 s."""

    def __init__(self, figures: SpeechFigures, window: int, hears: tuple[int, int], speaks: tuple[int, int]):
        super().__init__()
        self.figures = figures
        self.window, self.hears, self.speaks = window, hears, speaks
        self.hop = round(figures.sample_rate * figures.codebooks / figures.rate)  # samples of a frame

    @abstractmethod
    def frames_of(self, samples: torch.Tensor) -> torch.Tensor:
        """Codes int64 [B, K, at least ceil(n ÷ hop)] of `samples` float32 [B, n]."""

    @abstractmethod
    def sound_of(self, frames: torch.Tensor) -> torch.Tensor:
        """Samples [B, about T · hop] of codes int64 [B, K, T]."""

    @property
    def sample_rate(self) -> int:
        return self.figures.sample_rate

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def sound_rate(self) -> int:
        return self.sample_rate

    @property
    def speaks_in_blocks(self) -> bool:
        return not self.silent

    def encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        pieces, owners, cuts = [], [], []
        context = Context(self.hears[0], self.hears[1] * self.hop, 1)
        for number, samples in enumerate(waveforms):
            samples = checked(samples, f"waveform {number}")
            for cut in windows(len(samples), self.hop, self.window, context):
                pieces.append(samples[cut.start : cut.end])
                owners.append(number)
                cuts.append(cut)
        found = self._together(pieces, self._encoded)
        frames = joined([wanted(rows, cut) for rows, cut in zip(found, cuts, strict=True)], owners, len(waveforms))
        return [in_order(rows, self._size, self.figures.layout) for rows in frames]

    def decode(self, codes: Sequence[np.ndarray], voice: np.ndarray | None = None) -> list[np.ndarray]:
        self._check_speaks(voice)
        rows = [self.checked_codes(np.asarray(sequence), number) for number, sequence in enumerate(codes)]
        short = [number for number, row in enumerate(rows) if len(row) <= self.window]
        found = dict(zip(short, self._together([rows[number] for number in short], self._spoken), strict=True))
        return [found[number] if number in found else self._in_pieces(row) for number, row in enumerate(rows)]

    @contextmanager
    def speaking(self, voice: np.ndarray | None = None) -> "Iterator[CodecStream]":
        self._check_speaks(voice)
        # As many at once as are looked ahead at: each time, those are decoded anew.
        yield CodecStream(self.figures, self.going_on(), max(self.together, self.speaks[1]))

    def going_on(self) -> "Callable[[np.ndarray, bool], np.ndarray]":
        """What makes sound, piece by piece, of whole frames [n, K] as they come; told with the last that they are."""
        return SoundInWindows(self)

    def voice(self, samples: np.ndarray) -> np.ndarray:
        raise DataError(f"{self.one_voice}: no other can be chosen")

    def checked_codes(self, sequence: np.ndarray, number: int) -> np.ndarray:
        """The frames int64 [T, K] of a sequence. Raises `DataError` where it is none."""
        if sequence.ndim != 1 or not len(sequence) or not np.issubdtype(sequence.dtype, np.integer):
            raise DataError(f"sequence {number}: expected integer codes in one dimension, at least one")
        if sequence.min() < 0 or sequence.max() >= self.figures.codes:
            raise DataError(
                f"sequence {number}: codes {sequence.min()} … {sequence.max()}, expected 0 … {self.figures.codes - 1}"
            )
        try:
            return by_frame(sequence, self.figures.codebooks, self._size, self.figures.layout)
        except ValueError as problem:
            raise DataError(f"sequence {number}: {problem} (layout {self.figures.layout})") from None

    def sound(self, frames: np.ndarray) -> np.ndarray:
        """Samples float32 [about T · hop] of frames [T, K]."""
        with torch.inference_mode():
            return self._spoken([frames])[0]

    @property
    def _size(self) -> int:
        return self.figures.codes // self.figures.codebooks

    def _check_speaks(self, voice: np.ndarray | None) -> None:
        if self.silent:
            raise DataError(self.silent)
        if voice is not None:
            raise DataError(f"a voice: {self.one_voice}, no other can be chosen")

    def _in_pieces(self, row: np.ndarray) -> np.ndarray:
        going_on, size = self.going_on(), self.window
        return np.concatenate([going_on(row[at : at + size], at + size >= len(row)) for at in range(0, len(row), size)])

    def _encoded(self, pieces: list[np.ndarray]) -> list[np.ndarray]:
        count = -(-len(pieces[0]) // self.hop)
        found = self.frames_of(torch.from_numpy(np.stack(pieces)).to(self.device))
        return list(found[:, :, :count].transpose(1, 2).cpu().numpy())

    def _spoken(self, rows: list[np.ndarray]) -> list[np.ndarray]:
        codes = torch.from_numpy(np.stack(rows)).to(self.device)
        return list(self.sound_of(codes.transpose(1, 2)).float().cpu().numpy())

    def _together(self, items: list[np.ndarray], function: Callable[[list[np.ndarray]], list[np.ndarray]]) -> list[np.ndarray]:
        """`function` of the items in batches of equal length, since what fills up shorter ones would change their codes."""
        results: dict[int, np.ndarray] = {}
        by_length: dict[int, list[int]] = {}
        for number, item in enumerate(items):
            by_length.setdefault(len(item), []).append(number)
        with torch.inference_mode():
            for numbers in by_length.values():
                for start in range(0, len(numbers), _TOGETHER):
                    chosen = numbers[start : start + _TOGETHER]
                    results |= zip(chosen, function([items[number] for number in chosen]), strict=True)
        return [results[number] for number in range(len(items))]


class CodecStream:
    """`push` takes codes, any number of them, and gives samples; `finish` gives the rest."""

    def __init__(self, figures: SpeechFigures, sound: Callable[[np.ndarray, bool], np.ndarray], block: int) -> None:
        """`sound`: see `SpeechCodec.going_on`; it is given `block` frames, or several times as many, at once."""
        self._sound, self._block = sound, block
        self._frames = FrameReader(figures.codebooks, figures.codes // figures.codebooks, figures.layout)
        self._finished = False

    @property
    def silent(self) -> int:
        """How many codes more, at least, give no sound yet."""
        return max(0, self._frames.needed(self._block) - 1)

    def push(self, codes: np.ndarray) -> np.ndarray:
        """Samples that have become final with `codes` (int [any number]). Raises `DataError` on a code that cannot come next."""
        if self._finished:
            raise DataError("the stream is finished")
        try:
            self._frames.push(codes)
        except ValueError as problem:
            raise DataError(str(problem)) from None
        ready = self._frames.count // self._block * self._block
        return self._sound(self._frames.take(ready), False) if ready else np.zeros(0, dtype=np.float32)

    def finish(self) -> np.ndarray:
        """The samples that were still open. A frame that is not whole has none."""
        self._finished = True
        return self._sound(self._frames.take(self._frames.count), True)


class SoundInWindows:
    """Sound of frames as they come, each piece decoded anew with the frames around it that it depends on."""

    def __init__(self, codec: SpeechCodec) -> None:
        self._codec = codec
        self._kept = np.zeros((0, codec.figures.codebooks), dtype=np.int64)
        self._dropped = self._made = 0  # frames before those that are kept; those whose sound was given

    def __call__(self, frames: np.ndarray, last: bool) -> np.ndarray:
        left, right = self._codec.speaks
        self._kept = np.concatenate([self._kept, frames])
        total = self._dropped + len(self._kept)
        final = total if last else max(self._made, total - right)
        if final <= self._made:
            return np.zeros(0, dtype=np.float32)
        hop = self._codec.hop
        end = None if last else (final - self._dropped) * hop
        sound = self._codec.sound(self._kept)[(self._made - self._dropped) * hop : end]
        self._made = final
        start = max(0, final - left)
        self._kept, self._dropped = self._kept[start - self._dropped :], start
        return sound
