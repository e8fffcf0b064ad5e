"""Interleaving keeps every word; its spans have the lengths and the share that were asked for, and depend on nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.data.curate.spans import Spans, by_turns, draw_spans, word_places, word_spans
from mmpt.data.curate.steps.interleave import Interleave
from mmpt.data.curate.voices.alignments import Alignments
from mmpt.document import Document, Image, Speech, Text
from mmpt.media import decode_speech, encode_flac


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 200), st.floats(0.5, 30), st.floats(0, 1), st.integers(0, 10**6))
def test_spans_do_not_touch_and_reach_the_share_but_for_less_than_one_span(words, mean, ratio, seed):
    spans = draw_spans(words, mean, ratio, np.random.default_rng(seed))
    assert spans == sorted(spans) and all(0 <= first < last <= words for first, last in spans)
    assert all(last < first for (_, last), (first, _) in zip(spans, spans[1:], strict=False))
    covered = sum(last - first for first, last in spans)
    if spans:
        assert covered - max(last - first for first, last in spans) < ratio * words
    if ratio <= 0.3 and words >= 4 * mean + 20:
        assert covered >= ratio * words


def test_lengths_are_poisson_and_places_even():
    random = np.random.default_rng(0)
    spans = [span for _ in range(400) for span in draw_spans(1000, 10, 0.3, random)]
    lengths = np.array([last - first for first, last in spans])
    assert lengths.mean() == pytest.approx(10, abs=0.15) and lengths.var() == pytest.approx(10, rel=0.1)
    middles = np.array([(first + last) / 2 for first, last in spans])
    assert np.allclose(np.histogram(middles, 10, (0, 1000))[0] / len(spans), 0.1, atol=0.012)


def text_documents() -> list[Document]:
    draw = np.random.default_rng(1)
    words = ["alpha", "beta,", "gamma.", "—", "delta\n\n", "epsilon", "3"]
    return [
        Document(f"d{n}", "test", (Text(" ".join(draw.choice(words, 60)) + "  end", 0.5), Image(b"", "png", 1, 1), Text("x")))
        for n in range(4)
    ]


def test_texts_and_transcripts_joined_are_the_text(monkeypatch):
    pytest.importorskip("espeakng_loader", reason="the extra `quickstart` is not installed")
    config = Interleave()
    found = list(config.run(text_documents()))
    for before, after in zip(text_documents(), found, strict=True):
        assert "".join(part.text for part in after.parts if not isinstance(part, Image)) == before.parts[0].text + "x"
        speech = [part for part in after.parts if isinstance(part, Speech)]
        assert speech and all(part.weight == 0.5 for part in speech[:-1]) and speech[0].sample_rate == 16_000
        for part in speech:
            assert len(decode_speech(part.data)) / 16_000 == pytest.approx(part.duration) and part.duration > 0.1
    alone = list(config.run(text_documents()[2:3]))
    assert alone == found[2:3], "what was spoken before changes nothing"
    other = list(config.model_copy(update={"epoch": 1}).run(text_documents()))
    assert [part.text for part in other[0].parts if isinstance(part, Speech)] != [
        part.text for part in found[0].parts if isinstance(part, Speech)
    ]


def test_alignments_are_cut_where_the_words_are():
    rate, words = 8000, []
    samples = np.zeros(rate * 40, dtype=np.float32)
    for number in range(100):
        start = 0.4 * number
        samples[round(start * rate) : round((start + 0.3) * rate)] = (number + 1) / 200
        words.append((f"w{number}", start, start + 0.3))
    text = " ".join(word for word, _, _ in words)
    document = Document("d", "test", (Speech(encode_flac(samples, rate), "flac", rate, 40.0, text, tuple(words)), Text("t")))
    config = Interleave(speech=Alignments())
    (found,) = config.run([document])
    assert "".join(part.text for part in found.parts[:-1]) == text and found.parts[-1] == Text("t")
    spoken = [part for part in found.parts if isinstance(part, Speech)]
    assert 30 <= sum(len(part.words) for part in spoken) < 60
    for part in spoken:
        heard = decode_speech(part.data, rate)
        for word, start, end in part.words:
            assert heard[round(start * rate) + 10 : round(end * rate) - 10] == pytest.approx((int(word[1:]) + 1) / 200, abs=1e-3)


def aligned(text: str, words: str, seconds: float = 0.4) -> Document:
    """One utterance in which each of `words` takes `seconds`."""
    times = tuple((word, seconds * n, seconds * (n + 1)) for n, word in enumerate(words.split()))
    samples = np.zeros(round(8000 * (times[-1][2] + 1)), dtype=np.float32)
    return Document("d", "test", (Speech(encode_flac(samples, 8000), "flac", 8000, len(samples) / 8000, text, times),))


def written(document: Document) -> str:
    return "".join(part.text for part in document.parts)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, world! It's  fine — yes.", "hello world it's fine yes"),
        ("A red circle left of a large square", "A red circle left of large square"),  # "of a": run together
        ("Twenty-two men, twenty-two women", "twenty two men twenty two women"),
        ("twenty-two men", "twenty-two men"),
    ],
)
def test_words_with_times_keep_the_spelling_of_the_transcript(text, words):
    found = set()
    for seed in range(8):
        config = Interleave(seed=seed, mean_words=2, speech=Alignments())
        (after,) = config.run([aligned(text, words)])
        assert written(after) == text
        for part in after.parts:
            if isinstance(part, Speech):
                said = [word for word, _, _ in part.words]
                found.add(part.text)
                assert part.duration == pytest.approx(0.4 * len(said)) and part.text.lower().startswith(said[0].lower())
    assert len(found) > 1
    assert word_places("A red circle left of a large", ["of", "large"]) == [(18, 22), (23, 28)]


def test_what_cannot_be_spoken_stays_text_and_is_listed():
    document = aligned("one two three", "one two three")
    speech = document.parts[0]
    silent = tuple((word, start, start) for word, start, _ in speech.words)
    config = Interleave(ratio=1, mean_words=1, speech=Alignments())
    lost, *more, after = config.run([Document("d", "test", (replace(speech, words=silent),))])
    assert written(after) == "one two three"
    assert not lost.whole and "stays text" in lost.reason and not any(isinstance(part, Speech) for part in after.parts)
    other, kept = config.run([Document("d", "test", (replace(speech, text="nothing alike"),))])
    assert not other.whole and kept.parts == (replace(speech, text="nothing alike"),)
    damaged = Document("d", "test", (replace(speech, data=b"no audio"),))
    *lost, after = config.run([damaged])
    assert lost and written(after) == "one two three" and not any(isinstance(part, Speech) for part in after.parts)


def test_every_character_is_heard_or_listed():
    pytest.importorskip("espeakng_loader", reason="the extra `quickstart` is not installed")
    config = Interleave(ratio=1, mean_words=50)
    text = "one two three four five six seven"
    (whole,) = config.run([Document("d", "test", (Text(text),))])
    for odd in ("\0", "\ud800"):
        (after,) = config.run([Document("d", "test", (Text(text.replace(" three", f"{odd} three")),))])
        assert after.parts[0].duration > 0.9 * whole.parts[0].duration, "what follows an odd character is spoken too"
        assert written(after) == text.replace(" three", f"{odd} three")
    lost, after = config.run([Document("d", "test", (Text("— — —"),))])
    assert "stays text" in lost.reason and after.parts == (Text("— — —"),)


def test_spans_of_a_conversation_stay_in_their_turn():
    before = Text("one two three four five six", 0.5, "assistant", 3)
    spoken = Speech(b"", "flac", 8000, 1.0)
    spans = Spans(mean_words=1, ratio=0.5)
    parts = by_turns(before.text, before, word_spans(before.text), spans, spans.random("d"), lambda *_: spoken, [])
    assert {type(part) for part in parts} == {Text, Speech}
    assert {(part.weight, part.role, part.turn) for part in parts} == {(0.5, "assistant", 3)}
