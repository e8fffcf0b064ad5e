"""Codes of several codebooks as one sequence: in which order they come, and which may come next.

Each of T frames has a code of each of K codebooks; those of codebook k are numbered from k · size. Two orders of all T · K codes:

    flatten   frame by frame: c0(0) c1(0) … c0(1) c1(1) …        SoundStream's residual codes, read as they stand
    delay     codebook k comes k frames later: c0(0)  c0(1) c1(0)  c0(2) c1(1) c2(0) …     MusicGen (Copet et al. 2023,
              arXiv:2306.05284, section 2.2), without its padding: what would be empty is left out

In `delay` a code of a fine codebook is written when the coarse ones of the frames around it are known already.
"""

from typing import Literal

import numpy as np

Layout = Literal["flatten", "delay"]
NOTHING = np.int64(-1)
"""In place of a code before the first frame and behind the last."""


class Turns:
    """Where a sequence of codes stands: of which codebooks the next may be, told one by one.

    `frames`: those begun; `done`: those whole, from the first on; `count`: codes so far.
    """

    def __init__(self, codebooks: int, layout: Layout) -> None:
        self.codebooks = codebooks
        self._delay = layout == "delay" and codebooks > 1
        self.frames = self.done = self.count = 0
        self._step = self._next = 0  # of `delay`: the step, and the codebook whose turn it is in it
        self._ending = False  # of `delay`: no frame begins any more

    @property
    def missing(self) -> int:
        """Codes without which a frame that has begun would not be whole."""
        return self.frames * self.codebooks - self.count

    @property
    def whole(self) -> bool:
        """Whether the sequence may end here."""
        return self.count > 0 and not self.missing

    def allowed(self) -> tuple[int, ...]:
        """Codebooks that the next code may be of; 0 always begins a frame. None where the sequence must end."""
        if not self._delay:
            return (self.count % self.codebooks,)
        if self.whole:
            return ()
        return (0, 1) if self._next == 0 and self._step else (self._next,)

    def advance(self, codebook: int) -> int:
        """A code of `codebook` comes next; returns its frame. Raises `ValueError` where it is not its turn."""
        if codebook not in self.allowed():
            expected = " or ".join(map(str, self.allowed())) or "none, the sequence is whole"
            raise ValueError(f"code {self.count} is of codebook {codebook}, expected {expected}")
        frame = self._step - codebook if self._delay else self.count // self.codebooks
        self.frames += codebook == 0
        self.done = frame + 1 if codebook == self.codebooks - 1 else self.done
        self.count += 1
        if self._delay:
            self._ending |= self._next == 0 and codebook == 1
            self._next = codebook + 1
            if self._next > min(self._step, self.codebooks - 1):
                self._step += 1
                self._next = max(0, self._step - self.frames + 1) if self._ending else 0
        return frame


def in_order(frames: np.ndarray, size: int, layout: Layout) -> np.ndarray:
    """The sequence int64 [T · K] of `frames` [T, K], each code 0 … size − 1."""
    count, codebooks = frames.shape
    numbered = frames.astype(np.int64) + size * np.arange(codebooks)
    if layout == "flatten":
        return numbered.reshape(-1)
    frame, codebook = np.indices((count, codebooks))
    order = np.lexsort((codebook.reshape(-1), (frame + codebook).reshape(-1)))
    return numbered.reshape(-1)[order]


def by_frame(sequence: np.ndarray, codebooks: int, size: int, layout: Layout) -> np.ndarray:
    """The frames int64 [T, K] of a sequence: the inverse of `in_order`. Raises `ValueError` saying which code does not fit, or
    that the last frame is not whole."""
    whole = len(sequence) % codebooks == 0 and (layout == "flatten" or codebooks == 1)
    if whole and (sequence // size == np.arange(len(sequence)) % codebooks).all():
        return (sequence % size).astype(np.int64).reshape(-1, codebooks)
    turns = Turns(codebooks, layout)  # one by one, which also tells what does not fit
    places = [turns.advance(int(code) // size) for code in sequence]
    if turns.missing:
        raise ValueError(f"{turns.count} codes, {turns.missing} short of whole frames of {codebooks}")
    frames = np.zeros((turns.frames, codebooks), dtype=np.int64)
    frames[places, sequence // size] = sequence % size
    return frames


class FrameReader:
    """Frames out of a sequence of codes that is still coming in, and of any that follow where it ends. `count`: frames that are
    whole and not taken yet."""

    def __init__(self, codebooks: int, size: int, layout: Layout) -> None:
        self._codebooks, self._size = codebooks, size
        self._layout: Layout = layout
        self._turns = Turns(codebooks, layout)
        self._begun = np.zeros((0, codebooks), dtype=np.int64)  # frames that were not taken
        self._taken = 0  # of the sequence as it stands
        self._open = 0  # codes of frames that are not whole

    @property
    def count(self) -> int:
        return self._turns.done - self._taken

    def needed(self, count: int) -> int:
        """How many codes more there must be, at least, until so many frames are whole and not taken."""
        return max(0, (count - self.count) * self._codebooks - self._open)

    def push(self, codes: np.ndarray) -> None:
        """More codes, int [any number]. Raises `ValueError` on one that cannot come next."""
        whole = self.count
        for code in np.asarray(codes).tolist():
            if not 0 <= code < self._codebooks * self._size:
                raise ValueError(f"code {code}, expected 0 … {self._codebooks * self._size - 1}")
            if self._turns.whole and not self._turns.allowed():  # it is over: the next one begins
                self._taken -= self._turns.frames
                self._turns = Turns(self._codebooks, self._layout)
            frame = self._turns.advance(code // self._size) - self._taken
            if frame == len(self._begun):
                self._begun = np.concatenate([self._begun, np.zeros((1, self._codebooks), dtype=np.int64)])
            self._begun[frame, code // self._size] = code % self._size
        self._open += len(codes) - (self.count - whole) * self._codebooks

    def take(self, count: int) -> np.ndarray:
        """The next `count` whole frames, int64 [count, K], each code 0 … size − 1."""
        frames, self._begun = self._begun[:count], self._begun[count:]
        self._taken += count
        return frames


class FrameWriter:
    """A sequence of codes out of frames that are still coming in: together what `in_order` makes of all of them."""

    def __init__(self, codebooks: int, size: int, layout: Layout) -> None:
        numbers = np.arange(codebooks)
        self._shift, self._first = numbers * (layout == "delay"), numbers * size
        self._recent = np.full((int(self._shift[-1]), codebooks), NOTHING)

    def push(self, frames: np.ndarray) -> np.ndarray:
        """Codes int64 [n] that can be written with `frames` [T, K] more, each code 0 … size − 1."""
        late = len(self._recent)
        rows = np.concatenate([self._recent, frames])
        self._recent = rows[len(rows) - late :]
        # A code of codebook k comes in the step of the frame k later.
        places = np.arange(late, len(rows))[:, None] - self._shift
        codes = rows[places, np.arange(rows.shape[1])]
        return (codes + self._first)[codes != NOTHING]

    def finish(self) -> np.ndarray:
        """Those that were still open, int64 [n]."""
        return self.push(np.full_like(self._recent, NOTHING))
