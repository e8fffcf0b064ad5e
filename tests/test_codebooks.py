"""Orders of several codebooks' codes: there and back, as written down by hand, and what may come next."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.codebooks import FrameReader, FrameWriter, Turns, by_frame, in_order
from mmpt.vocabulary import Vocabulary


def test_the_delay_pattern_is_that_of_musicgen_without_its_padding():
    frames = np.array([[1, 2, 3], [4, 5, 6]])
    assert in_order(frames, 10, "flatten").tolist() == [1, 12, 23, 4, 15, 26]
    # Steps: c0(0) | c0(1) c1(0) | c1(1) c2(0) | c2(1)
    assert in_order(frames, 10, "delay").tolist() == [1, 4, 12, 15, 23, 26]


@given(st.integers(1, 9), st.integers(1, 5), st.sampled_from(["flatten", "delay"]), st.integers(0, 10**6))
@settings(deadline=None)
def test_frames_come_back_and_are_whole_no_sooner_than_their_codes(count, codebooks, layout, seed):
    frames = np.random.default_rng(seed).integers(0, 7, (count, codebooks))
    sequence = in_order(frames, 7, layout)
    assert (by_frame(sequence, codebooks, 7, layout) == frames).all()
    turns, seen = Turns(codebooks, layout), np.zeros((count, codebooks), dtype=bool)
    for number, code in enumerate(sequence):
        seen[turns.advance(code // 7), code // 7] = True
        assert turns.done == (seen.all(axis=1).argmin() if not seen.all() else count)
        assert turns.missing == seen.any(axis=1).sum() * codebooks - number - 1


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(1, 4), st.sampled_from(["flatten", "delay"]), st.data())
@settings(deadline=None)
def test_frames_are_whole_no_sooner_than_the_reader_says(counts, codebooks, layout, data):
    """Of several sequences, one after the other, read in any pieces, of which some frames are taken."""
    draw = np.random.default_rng(0)
    codes = np.concatenate([in_order(draw.integers(0, 7, (count, codebooks)), 7, layout) for count in counts])
    reader = FrameReader(codebooks, 7, layout)
    for code in codes:
        reader.take(data.draw(st.integers(0, reader.count)))
        told = {more: reader.needed(reader.count + more) for more in (1, 2)}
        before = reader.count
        reader.push(np.array([code]))
        assert reader.count == before or told[1] <= 1
        assert reader.needed(before + 2) in (told[2] - 1, 0)
        if layout == "flatten":  # nothing of later frames comes before
            assert (reader.count > before) == (told[1] == 1)


@given(st.integers(0, 9), st.integers(1, 5), st.sampled_from(["flatten", "delay"]), st.integers(0, 10**6))
@settings(deadline=None)
def test_pieces_of_frames_are_written_and_read_as_the_whole_is(count, codebooks, layout, seed):
    """Each code as soon as its order allows: of the flattened one nothing waits, of the delayed one K − 1 frames do."""
    draw = np.random.default_rng(seed)
    frames = draw.integers(0, 7, (count, codebooks))
    cuts = sorted(draw.integers(0, count + 1, 3).tolist())
    writer, reader = FrameWriter(codebooks, 7, layout), FrameReader(codebooks, 7, layout)
    given = [writer.push(piece) for piece in np.split(frames, cuts)]
    assert sum(map(len, given)) == (frames[:, 0].size * codebooks if layout == "flatten" else
                                    sum(min(codebooks, count - frame) for frame in range(count)))  # fmt: skip
    given.append(writer.finish())
    sequence = np.concatenate(given)
    assert np.array_equal(sequence, in_order(frames, 7, layout))
    found = []
    for piece in np.array_split(sequence, 4):
        reader.push(piece)
        found.append(reader.take(reader.count))
    assert np.array_equal(np.concatenate(found), frames)
    with pytest.raises(ValueError, match=f"code {7 * codebooks}, expected 0 … {7 * codebooks - 1}"):
        reader.push(np.array([7 * codebooks]))


@given(st.integers(1, 5), st.sampled_from(["flatten", "delay"]), st.integers(0, 10**6))
@settings(deadline=None)
def test_whatever_is_allowed_can_be_read(codebooks, layout, seed):
    draw, turns, sequence = np.random.default_rng(seed), Turns(codebooks, layout), []
    while not turns.whole or (turns.allowed() and len(sequence) < 30):
        # The last of them ends a sequence of the delayed order, which would go on for ever.
        codebook = turns.allowed()[-1] if len(sequence) > 20 else draw.choice(turns.allowed())
        turns.advance(int(codebook))
        sequence.append(int(codebook))
    assert len(by_frame(np.array(sequence), codebooks, 1, layout)) * codebooks == len(sequence)


@pytest.mark.parametrize(
    ("sequence", "layout", "problem"),
    [
        ([0, 1], "flatten", "code 1 is of codebook 0, expected 1"),
        ([0, 10, 20, 1], "flatten", "4 codes, 2 short of whole frames of 3"),
        ([10], "delay", "code 0 is of codebook 1, expected 0"),
        ([0, 10, 0], "delay", "code 2 is of codebook 0, expected 2"),
        ([0, 10, 20, 0], "delay", "code 3 is of codebook 0, expected none, the sequence is whole"),
        ([0, 1, 10], "delay", "3 codes, 3 short of whole frames of 3"),
    ],
)
def test_what_is_out_of_turn_is_told(sequence, layout, problem):
    with pytest.raises(ValueError, match=problem):
        by_frame(np.array(sequence), 3, 10, layout)


def test_a_vocabulary_of_one_codebook_keeps_its_fingerprint_and_cuts_frames_whole(tmp_path):
    plain = Vocabulary(10, "f", image_codes=0, codes_per_image=0, speech_codes=6, speech_rate=12.5)
    # As it was before vocabularies knew of codebooks: shards and checkpoints of then are read.
    assert plain.fingerprint == "88a22037f31ac772f8e9fdac75ea1618bd8f3ae98dd79226c727767b9d98c2da"
    several = Vocabulary(10, "f", 0, 0, 6, 12.5, speech_codebooks=3, speech_layout="delay")
    assert several.fingerprint != Vocabulary(10, "f", 0, 0, 6, 12.5, speech_codebooks=3).fingerprint != plain.fingerprint
    several.save(tmp_path)
    assert Vocabulary.load(tmp_path) == several
    frames = np.array([[0, 1, 0], [1, 1, 0], [0, 0, 1]])
    ids = (in_order(frames, 2, "delay") + several.speech_offset).tolist()
    first, rest = several.cut_speech(ids, 6)
    assert [i - several.speech_offset for i in first] == in_order(frames[:2], 2, "delay").tolist()
    assert [i - several.speech_offset for i in rest] == in_order(frames[2:], 2, "delay").tolist()
