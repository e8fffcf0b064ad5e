"""Rows of text read aloud: what a document says and what is learned of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from mmpt.config import parse_config
from mmpt.data.build import BuildConfig
from mmpt.data.lost import Lost
from mmpt.data.sources.spoken_text import SpokenText
from mmpt.document import Speech, Text
from mmpt.errors import ConfigError
from mmpt.media import decode_speech

pytest.importorskip("espeakng_loader", reason="the extra `quickstart` is not installed")

PARTS = [{"text": "answer", "weight": 0}, {"speech": "{question}", "weight": 0}, {"text": "it is {answer}"}]


def source(folder: Path, rows: list[dict], **changes) -> SpokenText:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {"kind": "spoken_text", "path": str(folder / "rows.jsonl"), "parts": PARTS, **changes}
    return parse_config({"sources": [spec]}, BuildConfig, "spec").sources[0]


def test_a_row_becomes_its_parts_in_order(tmp_path):
    (found,) = source(tmp_path, [{"question": "what is two plus two?", "answer": "four"}]).documents()
    prompt, speech, answer = found.parts
    assert prompt == Text("answer", 0.0) and answer == Text("it is four")
    assert isinstance(speech, Speech) and speech.text == "what is two plus two?" and speech.weight == 0
    samples = decode_speech(speech.data)
    assert len(samples) / 16000 == pytest.approx(speech.duration) and 0.7 < speech.duration < 3
    assert abs(samples).max() > 0.1 and [word for word, _, _ in speech.words] == ["what", "is", "two", "plus", "two"]


def test_parts_with_roles_are_a_conversation_in_turns(tmp_path):
    parts = [{"role": "user", "text": "Answer:"}, {"role": "user", "speech": "{question}"}]
    parts += [{"role": "assistant", "text": "{answer}"}, {"role": "user", "text": "thanks"}]
    (found,) = source(tmp_path, [{"question": "one or two?", "answer": "two"}], parts=parts).documents()
    assert [(part.role, part.turn) for part in found.parts] == [("user", 0), ("user", 0), ("assistant", 1), ("user", 2)]
    with pytest.raises(ConfigError, match="a role for all of them, or for none"):
        source(tmp_path, [], parts=[*parts, {"text": "a"}])


def test_voices_and_rates_change_from_document_to_document_and_never_from_reading_to_reading(tmp_path):
    rows = [{"question": "one two three", "answer": "four"}] * 12
    voices = {"parts": [{"speech": "{question}", "voices": ["en-us", "en-us+f3"], "rate": [120, 250]}]}
    config = source(tmp_path, rows, **voices)
    first, again = list(config.documents()), list(config.documents())
    assert first == again
    assert {tuple(document.meta["voices"]) for document in first} == {("en-us",), ("en-us+f3",)}
    assert np.std([document.parts[0].duration for document in first]) > 0.05
    assert list(source(tmp_path, rows, **voices, seed=1).documents()) != first


def test_rows_of_which_nothing_can_be_said_are_listed(tmp_path):
    rows = [
        {"question": "yes", "answer": "no"},
        {"answer": "no"},
        {"question": "", "answer": "no"},
        {"question": 3, "answer": "no"},
    ]
    found = list(source(tmp_path, rows).documents())
    reasons = [one.reason for one in found if isinstance(one, Lost)]
    assert len(found) == 4 and reasons == [
        "no text in 'question' (there is answer)",
        "nothing to be heard of ''",
        "no text in 'question' (there is question, answer)",
    ]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"text": "a", "speech": "b"}, "exactly one of text and speech"),
        ({}, "exactly one of text and speech"),
        ({"speech": "{question"}, "'{question'"),
        ({"speech": "a", "rate": [200, 100]}, "rate: 200 is more than 100"),
    ],
)
def test_a_part_that_cannot_be_made_is_refused(tmp_path, part, said):
    with pytest.raises(ConfigError, match=said):
        source(tmp_path, [], parts=[part])


def test_a_voice_that_is_not_there_ends_the_build(tmp_path):
    with pytest.raises(ConfigError, match="no voice 'nobody'"):
        list(source(tmp_path, [{"question": "a"}], parts=[{"speech": "{question}", "voices": ["nobody"]}]).documents())


def test_a_rate_of_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="at least one word a minute, not 0"):
        source(tmp_path, [], parts=[{"speech": "{question}", "rate": [0, 100]}])
