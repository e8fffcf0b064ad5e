"""What a realtime session is made of: its conversation and its settings."""

import numpy as np

from mmpt.document import Text
from mmpt.inference.server.realtime_conversation import Conversation, Item, prompt, whole
from mmpt.inference.server.realtime_events import Session, asked_by


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
    conversation = Conversation(3, 1000)
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
