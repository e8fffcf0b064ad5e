"""Text of long speech: pieces no longer than training's, and no word of an overlap twice or not at all."""

import numpy as np
import pytest

from mmpt.tokenizers.speech.long_reading import Piece, merged, pieces


@pytest.mark.parametrize("count, longest", [(1, 1), (7, 7), (8, 7), (20, 7), (1000, 50), (51, 50), (9, 1), (5, 2)])
def test_pieces_cover_a_row_in_order_and_are_no_longer_than_the_longest(count, longest):
    found = pieces(count, longest)
    assert found[0].start == 0 and found[-1].end == count
    assert all(one.end - one.start <= longest for one in found)
    assert all(one.start < two.start <= one.end < two.end for one, two in zip(found, found[1:], strict=False))
    assert (len(found) == 1) == (count <= longest)


def scripted(words: np.ndarray, ends: np.ndarray, start: int, end: int, random: np.random.Generator) -> list[int]:
    """What a text decoder reads of the vectors `start` … `end`: the words whole in it, and of one that is cut anything."""
    starts = np.concatenate([[0], ends[:-1]])
    inside = (starts >= start) & (ends <= end)
    read = list(words[inside])
    for cut, place in (((starts < start) & (ends > start + 1), 0), ((starts < end - 1) & (ends > end), len(read) + 1)):
        if cut.any() and random.random() < 0.7:
            read.insert(place, int(words[cut][0] if random.random() < 0.4 else random.integers(10)))
    return read


def test_words_of_overlaps_come_once_though_words_at_the_cuts_are_misread():
    random, lost = np.random.default_rng(0), 0
    for _ in range(50):
        words = random.integers(0, 200, 120)
        ends = np.cumsum(random.integers(3, 8, len(words)))
        places = pieces(int(ends[-1]), 60)
        found = merged([scripted(words, ends, *place, random) for place in places], places)
        lost += list(words) != found
    assert lost == 0


def test_repeated_words_are_counted_by_how_much_the_overlap_holds():
    """Ten words alone leave many ways to lay two pieces on each other; few of them are taken wrong."""
    random, wrong, said = np.random.default_rng(1), 0, 0
    for _ in range(50):
        words = random.integers(0, 10, 120)
        ends = np.cumsum(random.integers(3, 8, len(words)))
        places = pieces(int(ends[-1]), 60)
        found = merged([scripted(words, ends, *place, random) for place in places], places)
        wrong += distance(list(words), found)
        said += len(words)
    assert wrong / said < 0.01
    assert merged([[7] * 6, [7] * 6], [Piece(0, 10), Piece(7, 17)]) == [7] * 10


def spoken(random: np.random.Generator, count: int, longest: int) -> np.ndarray:
    """Loudness of speech of at most `longest` vectors between pauses of 4 to 8, some single quiet vectors in it."""
    rows = []
    while sum(map(len, rows)) < count:
        rows += [random.uniform(0.6, 1, random.integers(2, longest)), random.uniform(0, 0.05, random.integers(4, 9))]
    row = np.concatenate(rows)[:count]
    row[random.integers(0, count, count // 20)] = 0.02
    return row


@pytest.mark.parametrize("seed", range(20))
def test_long_speech_is_cut_in_its_pauses_where_there_are_enough(seed):
    random = np.random.default_rng(seed)
    count, longest = int(random.integers(101, 2000)), 100
    loudness = spoken(random, count, 25)
    found = pieces(count, longest, loudness)
    assert [piece.start for piece in found] == [0, *[piece.end for piece in found[:-1]]] and found[-1].end == count
    assert all(0 < piece.end - piece.start <= longest for piece in found)
    assert all(piece.end - piece.start >= 0.3 * longest for piece in found[:-1])
    for piece in found[:-1]:  # between quiet vectors on both sides
        assert (loudness[piece.end - 1 : piece.end + 1] < 0.06).all()
    # Nothing depends on the scale, nor on a louder room after it.
    assert pieces(count, longest, loudness * 8 - 4) == found
    both = pieces(2 * count, longest, np.concatenate([loudness, 0.3 + loudness]))
    assert all(one.end <= other.start for one, other in zip(both, both[1:], strict=False))


@pytest.mark.parametrize("loudness", [np.zeros(500), np.tile([0.0, 1.0, 1.0], 167)[:500], np.r_[np.zeros(30), np.ones(470)]])
def test_without_a_pause_in_time_pieces_overlap(loudness):
    assert pieces(500, 100, loudness) == pieces(500, 100)


def test_pieces_that_do_not_overlap_are_read_one_after_the_other():
    assert merged([[1, 2, 3], [3, 2, 1], [3]], [Piece(0, 5), Piece(5, 9), Piece(9, 12)]) == [1, 2, 3, 3, 2, 1, 3]


def distance(one: list[int], other: list[int]) -> int:
    """Levenshtein's."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one):
        before, row[0] = row[0], i + 1
        for j, b in enumerate(other):
            before, row[j + 1] = row[j + 1], min(row[j + 1] + 1, row[j] + 1, before + (a != b))
    return row[-1]
