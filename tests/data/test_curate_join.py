"""Joined utterances hold every sample and every word, in order, and none is longer than it may be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.data.curate.steps.join import RATE, Join
from mmpt.data.lost import Lost
from mmpt.document import Document, Speech, Text
from mmpt.media import decode_speech, encode_wav


def clip(number: int, seconds: float, rate: int = RATE, words: tuple = ()) -> Document:
    level = (number % 7 + 1) / 8
    data = encode_wav(np.full(int(seconds * rate), level, dtype=np.float32), rate)
    return Document(f"c{number}", "test", (Speech(data, "wav", rate, seconds, f"word{number} ", words),), {"speaker": number})


@settings(deadline=None, max_examples=25)
@given(
    lengths=st.lists(st.floats(0.05, 1.2), min_size=1, max_size=12),
    least=st.floats(0.1, 1), more=st.floats(0, 2), seed=st.integers(0, 9), places=st.sets(st.integers(0, 11)),
)  # fmt: skip
def test_every_sample_and_word_is_in_one_utterance_in_order(lengths, least, more, seed, places):
    clips = [clip(number, seconds) for number, seconds in enumerate(lengths)]
    other = Document("pair", "test", (Text("a"), clips[0].parts[0]))
    lost = Lost("x", "broken", "x", True, "read")
    given_ = [one for number, each in enumerate(clips) for one in ([other, lost, each] if number in places else [each])]
    step = Join(least=least, most=least + more, seed=seed)
    found = list(step.run(given_))
    assert found == list(step.run(given_))
    assert [one for one in found if isinstance(one, Lost)] == [lost] * len([n for n in places if n < len(clips)])
    joined = [one for one in found if isinstance(one, Document) and one.id != "pair"]
    assert [name for one in joined for name in one.meta.get("joined", [one.id])] == [one.id for one in clips]
    sounds = [decode_speech(one.parts[0].data) for one in joined]
    before = [decode_speech(one.parts[0].data) for one in clips]
    assert np.array_equal(np.concatenate(sounds), np.concatenate(before))
    assert " ".join(one.parts[0].text.strip() for one in joined).split() == [f"word{n}" for n in range(len(clips))]
    for one, sound in zip(joined, sounds, strict=True):
        assert one.parts[0].duration == pytest.approx(len(sound) / RATE, abs=1e-3)
        assert len(sound) <= step.most * RATE or "joined" not in one.meta
    first = 0
    for one, sound in zip(joined, sounds, strict=True):  # none is short but where the next clip would not fit, or the last
        first += len(one.meta.get("joined", [one.id]))
        fits = first < len(before) and len(sound) + len(before[first]) <= step.most * RATE
        assert not fits or len(sound) >= step.least * RATE


def test_words_are_where_they_are_said_and_other_rates_are_resampled():
    one = clip(0, 1.0, 8000, (("word0", 0.25, 0.5),))
    two = clip(1, 0.5, RATE, (("word1", 0.1, 0.2),))
    (found,) = Join(least=9, most=9).run([one, two])
    part = found.parts[0]
    assert (part.sample_rate, part.duration, part.text) == (RATE, 1.5, "word0 word1")
    assert part.words == (("word0", 0.25, 0.5), ("word1", 1.1, 1.2))
    assert found.meta == {"speaker": 0, "joined": ["c0", "c1"]}


def test_a_clip_that_cannot_be_decoded_is_listed_and_the_rest_joined():
    broken = Document("b", "test", (Speech(b"x", "wav", RATE, 1.0, "no"),))
    lost, found = Join(least=9, most=9).run([clip(0, 0.5), broken, clip(1, 0.5)])
    assert (lost.item, lost.whole, lost.rule) == ("b", True, "join") and found.meta["joined"] == ["c0", "c1"]


def test_what_is_said_may_stand_beside_it_as_a_text_but_nothing_else():
    def beside(number: int, text: str, before: bool = False) -> Document:
        (part,) = clip(number, 0.5).parts
        return Document(f"c{number}", "test", (Text(text), part) if before else (part, Text(text)))

    given_ = [
        beside(0, "word0"),
        beside(1, "word1"),
        beside(2, "word2", before=True),
        beside(3, "other"),
        beside(4, "word4", True),
    ]
    found = list(Join(least=9, most=9).run(given_))
    assert [one.meta.get("joined", [one.id]) for one in found] == [["c0", "c1"], ["c3"], ["c2", "c4"]]
    assert [[type(part) for part in one.parts] for one in found] == [[Speech, Text], [Speech, Text], [Text, Speech]]
    assert found[0].parts[1].text == found[0].parts[0].text == "word0 word1"


def test_least_above_most_is_refused():
    with pytest.raises(ValueError, match="least is 5"):
        Join(least=5, most=4)
