"""Degrading keeps what it promises and lists every part that goes."""

from hypothesis import given
from hypothesis import strategies as st

from mmpt.data.curate.steps.degrade import Degrade
from mmpt.data.lost import Lost
from mmpt.document import Document, Image, Speech, Text

part = st.one_of(
    st.sampled_from(["a", "b", " "]).map(Text),
    st.sampled_from(["alt", ""]).map(lambda alt: Image(b"x", "png", 1, 1, alt)),
    st.sampled_from(["said", ""]).map(lambda text: Speech(b"x", "wav", 8000, 1.0, text)),
)
documents = st.lists(st.lists(part, min_size=1, max_size=6), max_size=5).map(
    lambda lists: [Document(f"d{number}", "test", tuple(parts)) for number, parts in enumerate(lists)]
)


@given(documents, st.sampled_from(["alt", "nearest"]))
def test_each_picture_is_in_one_pair_or_listed_and_nothing_vanishes(before, which):
    found = list(Degrade(to="pairs", text=which).run(before))
    pairs = [one for one in found if isinstance(one, Document)]
    whole = {one.document for one in found if isinstance(one, Lost) and one.whole}
    assert all(len(pair.parts) == 2 and isinstance(pair.parts[0], Image) and pair.parts[1].text.strip() for pair in pairs)
    assert len({pair.id for pair in pairs}) == len(pairs)
    for document in before:
        own = [pair for pair in pairs if pair.id.startswith(f"{document.id}/")]
        assert (document.id in whole) == (not own)
        if own:
            listed = {one.item for one in found if isinstance(one, Lost) and one.document == document.id}
            pictures = [place for place, item in enumerate(document.parts) if isinstance(item, Image)]
            placed = {int(pair.id.rpartition("/")[2]) for pair in own}
            assert placed | {place for place in pictures if f"{document.id}, part {place}" in listed} == set(pictures)
            if which == "alt":
                assert all(pair.parts[1].text == pair.parts[0].alt for pair in own)
                assert len(own) + len(listed) == len(document.parts)


def test_the_nearest_text_is_that_after_the_picture():
    document = Document(
        "d", "test", (Text("before"), Image(b"1", "png", 1, 1), Text("after"), Text("far"), Image(b"2", "png", 1, 1))
    )
    pairs = [one for one in Degrade(to="pairs").run([document]) if isinstance(one, Document)]
    assert [pair.parts[1].text for pair in pairs] == ["after", "far"]


@given(documents)
def test_plain_text_holds_all_that_is_written_or_said(before):
    found = list(Degrade(to="text").run(before))
    by_id = {one.id: one for one in found if isinstance(one, Document)}
    for document in before:
        texts = [item.text for item in document.parts if isinstance(item, Text | Speech) and item.text.strip()]
        assert (document.id in by_id) == bool(texts)
        if texts:
            assert by_id[document.id].parts == (Text("\n\n".join(texts)),)
        dropped = sum(isinstance(item, Image) or not item.text.strip() for item in document.parts)
        assert sum(isinstance(one, Lost) and one.document == document.id and not one.whole for one in found) == dropped


def test_what_is_read_and_never_learned_stays_so():
    picture = Image(b"1", "png", 1, 1)
    parts = (Text("question", 0.0), Speech(b"x", "wav", 8000, 1.0, "aloud", weight=0.0), picture, Text("answer"))
    document = Document("d", "test", parts)
    (text,) = (one for one in Degrade(to="text").run([document]) if isinstance(one, Document))
    assert text.parts == (Text("question\n\naloud\n\n", 0.0), Text("answer"))
    before = Document("d", "test", (Text("question", 0.0), picture))
    (pair,) = Degrade(to="pairs").run([before])
    assert pair.parts == (picture, Text("question", 0.0))


def test_what_is_left_of_a_conversation_is_none():
    said = (Image(b"x", "png", 1, 1, role="user"), Text("what?", role="user"), Text("a", role="assistant", turn=1))
    for to in ("pairs", "text"):
        (found,) = (one for one in Degrade(to=to).run([Document("d", "s", said)]) if isinstance(one, Document))
        assert not any(part.role or part.turn for part in found.parts)
