"""Every id has one modality, codes survive the way there and back, and what breaks the grammar is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.errors import VocabularyError
from mmpt.vocabulary import MODALITIES, SPECIAL, Vocabulary, check_same

VOCABULARY = Vocabulary(100, "f" * 64, image_codes=16, codes_per_image=4, speech_codes=32, speech_rate=12.5)

text = st.lists(st.integers(0, 99), min_size=1, max_size=5).map(lambda ids: ("text", ids))
image = st.lists(st.integers(0, 15), min_size=4, max_size=4).map(lambda codes: ("image", codes))
speech = st.lists(st.integers(0, 31), min_size=1, max_size=6).map(lambda codes: ("speech", codes))


def ids_of(blocks) -> list[int]:
    ids = [VOCABULARY.special("<|begin|>")]
    for kind, values in blocks:
        if kind == "text":
            ids += values
        else:
            ids += VOCABULARY.encode_image(values) if kind == "image" else VOCABULARY.encode_speech(values)
    return [*ids, VOCABULARY.special("<|end|>")]


@given(st.lists(text | image | speech, max_size=5))
@settings(deadline=None, max_examples=100)
def test_split_inverts_encoding(blocks):
    merged = []
    for kind, values in blocks:  # neighbouring texts become one
        if kind == "text" and merged and merged[-1][0] == "text":
            merged[-1] = ("text", merged[-1][1] + values)
        else:
            merged.append((kind, values))
    assert [(kind, values.tolist()) for kind, values in VOCABULARY.split(ids_of(blocks))] == merged


def test_ranges_cover_all_ids_once_and_modality_follows_them():
    spans = VOCABULARY.ranges()
    assert [spans[name] for name in MODALITIES] == [(0, 100), (100, 107), (107, 123), (123, 155)]
    expected = [index for index, name in enumerate(MODALITIES) for _ in range(*spans[name])]
    assert VOCABULARY.modality(np.arange(VOCABULARY.size)).tolist() == expected
    for wrong in (-1, VOCABULARY.size):
        with pytest.raises(VocabularyError, match=str(wrong)):
            VOCABULARY.modality(np.array([0, wrong]))


def test_added_tokens_stand_in_id_order():
    tokens = VOCABULARY.added_tokens()
    assert len(tokens) == VOCABULARY.size - VOCABULARY.text_size
    assert tuple(tokens[: len(SPECIAL)]) == SPECIAL
    assert tokens[VOCABULARY.encode_speech([5])[1] - VOCABULARY.text_size] == "<|speech_00005|>"


@pytest.mark.parametrize(
    "broken",
    [
        ["<|image|>", 106, 107, 108, "<|/image|>"],  # three codes of four
        ["<|image|>", 106, 107, 108, 109],  # never closed
        ["<|speech|>", 5, "<|/speech|>"],  # text inside
        [106],  # a code outside
        ["<|/speech|>"],
        ["<|image|>", 106, "<|end|>"],
    ],
)
def test_a_broken_grammar_is_refused(broken):
    with pytest.raises(VocabularyError):
        VOCABULARY.split([VOCABULARY.special(t) if isinstance(t, str) else t for t in broken])


def test_codes_out_of_range_are_refused():
    with pytest.raises(VocabularyError):
        VOCABULARY.encode_speech([32])
    with pytest.raises(VocabularyError):
        VOCABULARY.encode_image([0, 1, 2, 16])
    with pytest.raises(VocabularyError, match="3 codes, expected 4"):
        VOCABULARY.encode_image([0, 1, 2])


def test_file_round_trip_and_an_edited_file_is_refused(tmp_path):
    VOCABULARY.save(tmp_path)
    assert Vocabulary.load(tmp_path) == VOCABULARY
    path = tmp_path / "vocabulary.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "image_codes": 17}))
    with pytest.raises(VocabularyError, match="fingerprint"):
        Vocabulary.load(tmp_path)
    path.unlink()
    with pytest.raises(VocabularyError, match=r"vocabulary\.json"):
        Vocabulary.load(tmp_path)


def test_a_mismatch_names_both_sides_and_the_field():
    other = Vocabulary(100, "f" * 64, 16, 4, 64, 12.5)
    with pytest.raises(VocabularyError, match=r"(?s)one side.*other side.*speech_codes: 32 in one side, 64 in other side"):
        check_same(VOCABULARY, "one side", other, "other side")
    check_same(VOCABULARY, "a", Vocabulary(100, "f" * 64, 16, 4, 32, 12.5), "b")
