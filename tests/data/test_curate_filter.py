"""Rules drop what they say and nothing else; scores are those that an independent computation gives."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from mmpt.config import parse_config
from mmpt.data.curate.steps.filter import Filter
from mmpt.data.lost import Lost
from mmpt.document import Document, Image, Speech, Text
from mmpt.errors import ConfigError
from mmpt.media import encode_flac, encode_png


def rules(*entries: dict) -> Filter:
    return parse_config({"rules": list(entries)}, Filter, "rules.yaml")


def picture(width: int, height: int, alt: str = "") -> Image:
    data = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image(encode_png(Picture.fromarray(data)), "png", width, height, alt)


def run(config: Filter, *documents: Document) -> tuple[list[Document], list[Lost]]:
    found = list(config.run(documents))
    return [one for one in found if isinstance(one, Document)], [one for one in found if isinstance(one, Lost)]


@pytest.mark.parametrize(("rule", "good", "bad", "reason"), [
    ({"kind": "image_size", "min_side": 10}, picture(10, 30), picture(9, 30), "9 x 30 pixels"),
    ({"kind": "image_size", "max_side": 30}, picture(10, 30), picture(31, 10), "31 x 10 pixels"),
    ({"kind": "image_aspect", "max": 2}, picture(20, 10), picture(21, 10), "aspect 2.10"),
    ({"kind": "text_length", "min": 3}, Text("abc"), Text("ab"), "2 characters"),
    ({"kind": "text_pattern", "pattern": "(?i)lorem"}, Text("ipsum"), Text("a Lorem"), "'Lorem' is in it"),
    ({"kind": "repetition", "min_words": 5}, Text("one two three\nfour five six"), Text("a b c\na b c\na b c"), "67% of it"),
    ({"kind": "repetition", "min_words": 5}, Text("a b c d e f g h i"), Text("x y x y x y q r"), "75% of it is 'x y'"),
    ({"kind": "speech_duration", "max": 2}, Speech(b"", "wav", 8000, 2.0), Speech(b"", "wav", 8000, 2.1), "2.10 s"),
])  # fmt: skip
def test_a_part_goes_where_its_rule_says_alone_or_with_its_document(rule, good, bad, reason):
    document = Document("d", "test", (good, Text("other text"), bad), {"license": "x"})
    (kept,), (lost,) = run(rules(rule), document)
    assert kept.parts == (good, Text("other text")) and kept.meta == document.meta
    assert (lost.rule, lost.whole, lost.document, lost.item) == (rule["kind"], False, "d", "d, part 2") and reason in lost.reason
    kept, (lost,) = run(rules({**rule, "drop": "document"}), document)
    assert not kept and lost.whole and lost.rule == rule["kind"]


@settings(deadline=None, max_examples=80)
@given(st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=5), max_size=6), st.integers(1, 30), st.integers(1, 30))
def test_counts_reconcile(lengths, low, high):
    documents = [Document(f"d{n}", "test", tuple(Text("x" * size) for size in sizes)) for n, sizes in enumerate(lengths)]
    config = rules({"kind": "text_length", "min": low}, {"kind": "text_length", "max": high, "drop": "document"})
    kept, lost = run(config, *documents)
    gone = Counter(one.document for one in lost if one.whole)
    assert set(gone.values()) <= {1} and gone.keys() | {one.id for one in kept} == {one.id for one in documents}
    assert not gone.keys() & {one.id for one in kept}
    for document in kept:
        before = lengths[int(document.id[1:])]
        assert [len(part.text) for part in document.parts] == [size for size in before if size >= low]
        parts = [one for one in lost if one.document == document.id]
        assert len(parts) == len(before) - len(document.parts)
        assert all(len(documents[int(document.id[1:])].parts[int(one.item.rpartition(" ")[2])].text) < low for one in parts)


def test_rules_of_whole_documents():
    german = Document("de", "t", (Text("Dies ist ein längerer deutscher Satz über das Wetter und die Berge."), picture(4, 4)))
    english = Document("en", "t", (Text("This is a longer English sentence about weather and mountains."),), {"license": "CC0"})
    kept, lost = run(rules({"kind": "language", "keep": ["en"], "among": ["en", "de"]}), german, english)
    assert [one.id for one in kept] == ["en"] and lost[0].document == "de" and "language de" in lost[0].reason
    assert run(rules({"kind": "image_count", "min": 1}), german, english)[0] == [german]
    assert run(rules({"kind": "license", "keep": ["CC0"]}), german, english)[0] == [english]


def test_speech_activity_tells_speech_from_silence():
    pytest.importorskip("espeakng_loader", reason="the extra `quickstart` is not installed")
    from mmpt.data.synthetic.espeak import Speaker

    with Speaker() as speaker:
        spoken = speaker.speak("Here is a sentence that somebody says aloud, and then another one.")
    noise = (0.003 * np.random.default_rng(0).standard_normal(spoken.sample_rate * 3)).astype(np.float32)
    parts = [
        Speech(encode_flac(samples, spoken.sample_rate), "flac", spoken.sample_rate, len(samples) / spoken.sample_rate)
        for samples in (spoken.samples, noise)
    ]
    (kept,), (lost,) = run(rules({"kind": "speech_activity", "min": 0.3}), Document("d", "t", tuple(parts)))
    assert kept.parts == (parts[0],) and lost.reason == "speech in 0% of it" and kept.meta["scores"]["speech_activity"][0] > 0.6


def test_a_part_that_cannot_be_examined_makes_its_document_bad_data_and_mistakes_are_named():
    broken = Document("d", "t", (Speech(b"RIFF", "wav", 8000, 1.0),))
    kept, (lost,) = run(rules({"kind": "speech_activity"}), broken)
    assert not kept and lost.bad and "no audio that can be decoded" in lost.reason
    with pytest.raises(ConfigError, match=r"rules\.0.*\n.*rules\.1|2 mistakes"):
        rules({"kind": "image_size", "min_sides": 3}, {"kind": "text_pattern", "pattern": "("})
