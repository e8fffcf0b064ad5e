"""The questions of recipes/spoken_questions.py: right answers, and nothing of the test in the training."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from mmpt.media import decode_speech

ROOT = Path(__file__).resolve().parents[2]
DIGITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen"
)


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("spoken_questions", ROOT / "recipes" / "spoken_questions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_answers_are_right(script):
    value = {word: number for number, word in enumerate(DIGITS.split())}
    learned, held_out = script.questions()
    for one in [*learned, *held_out]:
        if found := re.fullmatch(r"what is (\w+) (plus|minus) (\w+)\?", one.question):
            a, what, b = found.groups()
            assert value[one.answer] == (value[a] + value[b] if what == "plus" else value[a] - value[b])
        elif found := re.fullmatch(r"is (\w+) (more|less) than (\w+)\?", one.question):
            a, what, b = found.groups()
            assert one.answer == ("yes" if (value[a] > value[b]) == (what == "more") else "no") and a != b
    facts = {one.question: one.answer for one in learned} | {one.question: one.answer for one in held_out}
    assert facts["tell me the opposite of cold"] == "hot" and facts["what is the day after sunday?"] == "monday"


def test_statements_are_so(script):
    value = {word: number for number, word in enumerate(DIGITS.split())}
    learned, held_out = script.questions()
    stated = [one for one in [*learned, *held_out] if one.statement]
    for one in stated:
        if found := re.fullmatch(r"(\w+) (plus|minus) (\w+) is (\w+)", one.statement):
            a, what, b, c = found.groups()
            assert value[c] == (value[a] + value[b] if what == "plus" else value[a] - value[b])
        elif found := re.fullmatch(r"(\w+) is (more|less) than (\w+)", one.statement):
            a, what, b = found.groups()
            assert (value[a] > value[b]) == (what == "more") and a != b
    assert {one.kind for one in stated} == {one.kind for one in learned}
    assert "the day after sunday is monday" in {one.statement for one in learned}


def test_what_is_asked_in_the_test_was_never_heard_but_each_of_its_words_was(script):
    learned, held_out = script.questions()
    assert not {one.question for one in learned} & {one.question for one in held_out}
    assert set(script.words(held_out)) <= set(script.words(learned))
    assert 0.15 < len(held_out) / len(learned) < 0.4 and {one.kind for one in held_out} == {one.kind for one in learned}
    # "is two less than five?" would be given away by "is two more than five?".
    for kind, first, second in (("more", 1, 4), ("sum", 2, 4)):
        pairs = [
            {
                frozenset((words[first], words[second].strip("?")))
                for one in side
                if one.kind == kind
                for words in [one.question.split()]
            }
            for side in (learned, held_out)
        ]
        assert pairs[1] and not pairs[0] & pairs[1]


def test_the_script_leaves_tables_and_recordings_in_other_voices(script, tmp_path, monkeypatch):
    pytest.importorskip("espeakng_loader", reason="the extra `quickstart` is not installed")
    arguments = ["spoken_questions.py", str(tmp_path), "--questions=14", "--sentences=10", "--held-out=14"]
    monkeypatch.setattr(sys, "argv", arguments)
    script.main()
    rows = {path.relative_to(tmp_path).as_posix(): path.read_text().splitlines() for path in tmp_path.rglob("*.jsonl")}
    assert {name: len(lines) for name, lines in rows.items()} == {
        "train/questions.jsonl": 14, "train/sentences.jsonl": 10, "test/questions.jsonl": 14, "test/sentences.jsonl": 14,
    }  # fmt: skip
    of_numbers = {one.statement for one in script.questions()[1]} - {one.statement for one in script.questions()[0]}
    asked = {one.question for one in script.questions()[1]}
    said = [json.loads(row)["sentence"] for row in rows["test/sentences.jsonl"]]
    assert set(said) <= asked | of_numbers and {one.endswith("?") for one in said} == {True, False}  # nothing of it was learned
    for row in map(json.loads, rows["test/questions.jsonl"]):
        assert len(decode_speech((tmp_path / "test" / row["audio"]).read_bytes())) > 8000
    spec = (ROOT / "datasets" / "specs" / "speech_smollm2.yaml").read_text()
    assert not any(f"- {voice}\n" in spec for voice in script.HELD_OUT_VOICES)
