"""Text of speech longer than any whose text was learned: read in pieces that overlap, and what two pieces both read kept once."""

import math
from collections.abc import Sequence
from typing import NamedTuple

OVERLAP = 0.42
"""What two pieces both read, as a share of the longest learned: a few words, of which those at the cuts may be read wrong."""
PART = 0.6
"""Length of a piece, as a share of the longest learned: the same time of faster speech holds more words than any text learned
had, and a text decoder that has come to that many leaves the rest out."""


class Piece(NamedTuple):
    """Vectors `start` … `end` of a row."""

    start: int
    end: int


def pieces(count: int, longest: int) -> list[Piece]:
    """A row of `count` vectors as it is where it is no longer than `longest`, else in pieces of `PART` of that, each of which
    shares about `OVERLAP` of it with the next."""
    if count <= longest:
        return [Piece(0, count)]
    # As few pieces as overlap enough, spread evenly from the first vector to the last.
    size = max(1, round(PART * longest))
    shared = min(size - 1, round(OVERLAP * longest))
    number = math.ceil((count - shared) / (size - shared))
    starts = [round(i * (count - size) / (number - 1)) for i in range(number)]
    return [Piece(start, start + size) for start in starts]


def merged(read: Sequence[list[int]], cuts: Sequence[Piece]) -> list[int]:
    """The tokens of a row from the tokens `read` in each of its pieces, `cuts`.

    The last tokens of a piece and the first of the next are laid on each other where most are equal, less the more their number
    departs from what the overlap should hold; then the left piece is left for the right one at the equal tokens nearest to the
    middle, farthest from both cuts.
    """
    whole: list[int] = []
    before: list[int] = []
    for number, (tokens, piece) in enumerate(zip(read, cuts, strict=True)):
        if number:
            last = cuts[number - 1]
            # How fast is spoken here: what both pieces read, for each vector, times the vectors that they share.
            rate = (len(before) + len(tokens)) / (last.end - last.start + piece.end - piece.start)
            both, change = _join(before, tokens, rate * (last.end - piece.start))
            # `both` tokens at the end of `whole` are read again: those after the change come from the right piece.
            whole = whole[: len(whole) - both + change] + tokens[change:]
        else:
            whole = list(tokens)
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
