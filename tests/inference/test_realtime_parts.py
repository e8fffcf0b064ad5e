"""What a realtime session is made of: its conversation and its settings."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpt.document import Text
from mmpt.inference.server.limits import Limits
from mmpt.inference.server.realtime_conversation import Conversation, Item, beginnings, longest, prompt, whole
from mmpt.inference.server.realtime_events import EVENT, Session, asked_by, media
from mmpt.inference.server.shares import Held, Share


def test_broken_off_answers_are_read_as_far_as_they_go(model):
    vocabulary = model.tokenizer.vocabulary
    mark, end, first = vocabulary.special("<|speech|>"), vocabulary.special("<|/speech|>"), vocabulary.speech_offset
    ids = [5, 6, mark, first, first + 1, first + 2, end, 7, mark, first + 3]
    assert whole(vocabulary, ids) == [*ids, end]
    assert whole(vocabulary, ids[:3]) == [5, 6]
    # 12.5 codes a second: text goes, since it runs ahead of the sound.
    assert whole(vocabulary, ids, 0.17) == [mark, first, first + 1, end]
    assert whole(vocabulary, ids, 0.33) == [*ids[2:7], mark, first + 3, end]
    assert whole(vocabulary, ids, 0.01) == []


def test_items_stand_where_they_were_put_and_the_oldest_go():
    conversation = Conversation(Limits(items=3, conversation=1000, text=50))
    for name in "abc":
        conversation.add(Item(name, "user"))
    oldest = conversation.find("a")
    assert conversation.add(Item("d", "user"), "a") == ("a", [oldest])
    assert [item.id for item in conversation] == ["d", "b", "c"]
    assert conversation.add(Item("e", "user"), "root")[0] is None
    # Sound that was heard is kept, but not without end.
    for name in "fgh":
        conversation.add(Item(name, "user", sound=np.zeros(100, dtype=np.float32)))
    assert [item.id for item in conversation] == ["g", "h"]
    # Nor texts: all of them are read for the next answer.
    for name in "ijk":
        conversation.add(Item(name, "user", said=[Text("a" * 20)]))
    assert [item.id for item in conversation] == ["j", "k"]


@given(st.lists(st.tuples(st.sampled_from(("user", "assistant", "system")), st.integers(0, 9)), max_size=40), st.integers(0, 150))
def test_the_oldest_are_left_out_as_one_by_one_but_read_a_few_times(said, most):
    items, tried = [Item(str(n), role, said=[Text("a")]) for n, (role, _) in enumerate(said)], []

    def size(start: int) -> int:
        return sum(length for _, length in said[start:])

    async def attempt(start: int):
        tried.append(start)
        return start if size(start) <= most else ValueError(start)

    start = 0
    while size(start) > most and len(items) - start > 1:
        start += 1
        while len(items) - start > 1 and items[start].role == "assistant":
            start += 1
    found = asyncio.run(longest(beginnings(items), attempt))
    if size(start) <= most:
        assert found == start
    else:
        assert isinstance(found, ValueError) and found.args == (start,)
    assert len(tried) <= 1 + len(items).bit_length()
    # Of what was broken off before a word there is nothing to answer.
    assert beginnings([*items, Item("b", "user"), Item("c", "assistant")])[1:] == [
        n for n, item in enumerate(items) if n and item.role != "assistant"
    ]


def test_what_is_kept_counts_for_its_client():
    share = Share(1000)
    held = [Held(share, client) for client in "aab"]
    assert held[0].be(300) and held[1].be(200) and not held[1].be(201)  # half is left free
    assert held[2].be(250) and not held[2].be(251) and held[0].be(0) and held[2].be(400)
    conversation = Conversation(Limits(), held[0].be)
    for name in "cdef":
        conversation.add(Item(name, "user", sound=np.zeros(30, dtype=np.float32)))
    assert [item.id for item in conversation] == ["f"] and conversation.held == 120 and share.holds("a") == 320


CONTENT = [
    {"type": "input_audio", "audio": "A" * 7},
    {"type": "input_image", "image_url": "B" * 8},
    {"type": "input_text", "text": "c"},
]
ANSWER = {"input": [{"content": [{"audio": "A" * 5}]}], "metadata": {"audio": "A" * 9}}


@pytest.mark.parametrize(
    ("event", "characters"),
    [
        ({"type": "input_audio_buffer.append", "audio": "A" * 40}, 40),
        ({"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": CONTENT}}, 15),
        ({"type": "response.create", "response": ANSWER}, 5),
        ({"type": "session.update", "session": {"instructions": "a", "audio": {"input": {"format": None}}}}, 0),
    ],
)
def test_media_of_a_message(event, characters):
    assert media(EVENT.validate_python(event)) == characters


def test_a_model_without_turns_reads_what_came_since_its_last_answer(model):
    items = [
        Item("a", "user", said=[Text("one")]),
        Item("b", "assistant", said=[Text("two")]),
        Item("c", "user", said=[Text("three")]),
    ]
    assert [one.text for one in prompt(items, "say", turns=False)] == ["say", "three"]
    turned = prompt(items, "say", turns=True)
    assert [(one.role, one.turn) for one in turned] == [("system", 0), ("user", 1), ("assistant", 2), ("user", 3)]


def test_an_update_changes_what_it_names():
    session = Session().updated({"audio": {"input": {"turn_detection": {"threshold": 0.7}}}, "instructions": "a"})
    assert session.audio.input.turn_detection.threshold == 0.7 and session.audio.input.turn_detection.silence_duration_ms == 500
    session = session.updated({"audio": {"input": {"turn_detection": None}}, "instructions": None})
    assert session.audio.input.turn_detection is None and session.instructions == "a"
    assert asked_by(session, {"instructions": "b"}).instructions == "b"
