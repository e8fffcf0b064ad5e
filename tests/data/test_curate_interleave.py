"""Interleaving keeps every word; its spans have the lengths and the share that were asked for, and depend on nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.data.curate.interleave import AlignmentsConfig, InterleaveConfig, draw_spans, interleave
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
    config = InterleaveConfig()
    found = list(interleave(config, text_documents()))
    for before, after in zip(text_documents(), found, strict=True):
        assert "".join(part.text for part in after.parts if not isinstance(part, Image)) == before.parts[0].text + "x"
        speech = [part for part in after.parts if isinstance(part, Speech)]
        assert speech and all(part.weight == 0.5 for part in speech[:-1]) and speech[0].sample_rate == 16_000
        for part in speech:
            assert len(decode_speech(part.data)) / 16_000 == pytest.approx(part.duration) and part.duration > 0.1
    alone = list(interleave(config, text_documents()[2:3]))
    assert alone == found[2:3], "what was spoken before changes nothing"
    other = list(interleave(config.model_copy(update={"epoch": 1}), text_documents()))
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
    config = InterleaveConfig(speech=AlignmentsConfig())
    (found,) = interleave(config, [document])
    assert " ".join(part.text for part in found.parts[:-1]) == text and found.parts[-1] == Text("t")
    spoken = [part for part in found.parts if isinstance(part, Speech)]
    assert 30 <= sum(len(part.words) for part in spoken) < 60
    for part in spoken:
        heard = decode_speech(part.data, rate)
        for word, start, end in part.words:
            assert heard[round(start * rate) + 10 : round(end * rate) - 10] == pytest.approx((int(word[1:]) + 1) / 200, abs=1e-3)
