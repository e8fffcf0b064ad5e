"""A document survives its record form, and nothing that is not whole passes for one."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.document import Document, Image, Speech, Text, from_record, to_record
from mmpt.errors import DataError

weights = st.sampled_from([0.0, 0.5, 1.0, 3.0])
said = st.sampled_from([None, "system", "user", "assistant"]), st.integers(0, 3)
texts = st.builds(Text, st.text(), weights, *said)
images = st.builds(
    Image,
    st.binary(min_size=1),
    st.sampled_from(["png", "jpg"]),
    st.integers(1, 99),
    st.integers(1, 99),
    st.text(),
    weights,
    *said,
)
words = st.lists(st.tuples(st.text(), st.floats(0, 9), st.floats(0, 9)), max_size=3).map(tuple)
speech = st.builds(
    Speech, st.binary(min_size=1), st.just("flac"), st.just(16000), st.floats(0, 9), st.text(), words, weights, *said
)
documents = st.builds(
    Document,
    st.text(min_size=1),
    st.text(),
    st.lists(texts | images | speech, max_size=5).map(tuple),
    st.just({"language": "en"}),
)


@given(documents)
@settings(deadline=None, max_examples=60)
def test_record_round_trip(document):
    record, members = to_record(document)
    assert from_record(record, members) == document


def example() -> tuple[dict, dict]:
    return to_record(Document("a", "b", (Text("x"), Image(b"1", "png", 4, 5), Speech(b"2", "flac", 16000, 1.0, "hello"))))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r, m: r.update(format="mmpt-document/2"), "format"),
        (lambda r, m: r.pop("id"), "field id"),
        (lambda r, m: m.pop("1.png"), "1.png is missing"),
        (lambda r, m: m.update({"7.png": b""}), "7.png belongs to no part"),
        (lambda r, m: r["parts"][1].pop("width"), "part 1"),
        (lambda r, m: r["parts"][1].update(member="../1.png"), "part 1"),
        (lambda r, m: r["parts"][2].update(type="video"), "video"),
        (lambda r, m: r["parts"][0].update(weight=float("nan")), "weight"),
        (lambda r, m: r["parts"][0].update(role="tool"), "role is 'tool'"),
        (lambda r, m: r["parts"][0].update(role=["user"]), "part 0: role"),
        (lambda r, m: r["parts"][0].update(turn=-1), "turn is -1"),
        (lambda r, m: r["parts"][0].update(turn=True), "turn is True"),
    ],
)
def test_a_record_that_is_not_whole_is_refused(damage, message):
    record, members = copy.deepcopy(example())
    damage(record, members)
    with pytest.raises(DataError, match=message):
        from_record(record, members)


def test_a_record_says_roles_only_where_there_are_some():
    record, _ = example()
    assert all(entry.keys().isdisjoint({"weight", "role", "turn"}) for entry in record["parts"])
    record, _ = to_record(Document("a", "b", (Text("x", 0.0, "user"), Text("y", role="assistant", turn=1))))
    assert record["parts"] == [
        {"type": "text", "text": "x", "weight": 0.0, "role": "user"},
        {"type": "text", "text": "y", "role": "assistant", "turn": 1},
    ]
