"""Text of speech longer than any whose text was learned: read in pieces cut where nobody speaks, or else in pieces that overlap,
and what two pieces both read kept once."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

OVERLAP = 0.42
"""What two pieces both read, as a share of the longest learned: a few words, of which those at the cuts may be read wrong."""
PART = 0.6
"""Length of a piece, as a share of the longest learned: the same time of faster speech holds more words than any text learned
had, and a text decoder that has come to that many leaves the rest out."""


PAUSE = 0.24
"""Seconds that a pause lasts at least."""
QUIET = 0.4
"""How loud a pause is at most, as a share of the way from the quietest twentieth of what is heard to its loudest fifth."""
SHORTEST = 0.3
"""Length of a piece that ends at a pause, as a share of the longest learned."""


class Piece(NamedTuple):
    """Vectors `start` … `end` of a row."""

    start: int
    end: int


def pieces(count: int, longest: int, loudness: np.ndarray | None = None, rate: float = 12.5) -> list[Piece]:
    """A row of `count` vectors, `rate` a second, as it is where it is no longer than `longest`; else cut at pauses where there
    are enough of them by `loudness` [count]; else in pieces of `PART` of that, each of which shares about `OVERLAP` of it with
    the next."""
    if count <= longest:
        return [Piece(0, count)]
    if loudness is not None and (found := _at_pauses(loudness, longest, max(1, round(PAUSE * rate)))):
        return found
    # As few pieces as overlap enough, spread evenly from the first vector to the last.
    size = max(1, round(PART * longest))
    shared = min(size - 1, round(OVERLAP * longest))
    number = math.ceil((count - shared) / (size - shared))
    starts = [round(i * (count - size) / (number - 1)) for i in range(number)]
    return [Piece(start, start + size) for start in starts]


def _at_pauses(loudness: np.ndarray, longest: int, pause: int) -> list[Piece]:
    """Pieces of at most `longest`, one after the other, each as long as it can be that ends in the middle of a pause (Bain et al.
    2023, "WhisperX", arXiv:2303.00747, section 2.1, cuts and merges so); none where somebody speaks for too long."""
    found, start = [], 0
    while len(loudness) - start > longest:
        # How loud a pause is, the speaker who is heard here decides, and not others of the same recording.
        place = _last_pause(loudness[start : start + longest], round(SHORTEST * longest), pause)
        if place is None:
            return []
        found.append(Piece(start, start + place))
        start += place
    return [*found, Piece(start, len(loudness))]


def _last_pause(loudness: np.ndarray, least: int, pause: int) -> int | None:
    """The middle of the last pause, of `pause` vectors or more, `least` or later: about as quiet as any is there."""
    quietest, loudest = np.quantile(loudness, [0.05, 0.8])
    first = max(0, least - pause // 2)
    mean = np.convolve(loudness, np.full(pause, 1 / pause), mode="valid")[first:]
    if loudest == quietest or not len(mean) or mean.min() > quietest + QUIET * (loudest - quietest):
        return None
    quiet = np.flatnonzero(mean <= mean.min() + (loudest - quietest) / 12)
    last = np.split(quiet, np.flatnonzero(np.diff(quiet) > 1) + 1)[-1]
    return max(1, first + int(last[0] + last[-1] + pause) // 2)


def merged(read: Sequence[list[int]], cuts: Sequence[Piece]) -> list[int]:
    """The tokens of a row from the tokens `read` in each of its pieces, `cuts`.

    The last tokens of a piece and the first of the next are laid on each other where most are equal, less the more their number
    departs from what the overlap should hold; then the left piece is left for the right one at the equal tokens nearest to the
    middle, farthest from both cuts.
    """
    whole: list[int] = []
    before: list[int] = []
    for number, (tokens, piece) in enumerate(zip(read, cuts, strict=True)):
        if number and piece.start < cuts[number - 1].end:
            last = cuts[number - 1]
            # How fast is spoken here: what both pieces read, for each vector, times the vectors that they share.
            rate = (len(before) + len(tokens)) / (last.end - last.start + piece.end - piece.start)
            both, change = _join(before, tokens, rate * (last.end - piece.start))
            # `both` tokens at the end of `whole` are read again: those after the change come from the right piece.
            whole = whole[: len(whole) - both + change] + tokens[change:]
        else:
            whole = whole + list(tokens)
        before = tokens
    return whole


def _join(left: list[int], right: list[int], expected: float) -> tuple[int, int]:
    """(how many last tokens of `left` are the first of `right`, after how many of them to change over)."""
    most = min(len(left), len(right))
    # Where not one token agrees (silence, or words cut in two), the overlap is taken at the length it should have.
    best: tuple[float, int, list[int]] = (0.0, min(most, round(expected)), [])
    for both in range(1, most + 1):
        equal = [i for i in range(both) if left[len(left) - both + i] == right[i]]
        # 1.5: common words agree by chance at many shifts, so a token more that agrees is worth less than the right length.
        score = len(equal) - 1.5 * abs(both - expected)
        if equal and (not best[2] or score > best[0]):
            best = (score, both, equal)
    _, both, equal = best
    middle = both / 2
    return both, min(equal, key=lambda i: abs(i + 0.5 - middle), default=both // 2)
