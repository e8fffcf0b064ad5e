"""Each benchmark on a tiny set in its own format, with answers that are given and scores that were worked out by hand."""

import csv
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mmpt.config import load_config
from mmpt.document import Speech, Text
from mmpt.errors import ConfigError, DataError
from mmpt.evaluation.benchmarks import Benchmark, _items, membership, pairs
from mmpt.evaluation.metrics.intervals import bootstrap
from mmpt.evaluation.metrics.likelihood import preferred
from mmpt.evaluation.metrics.recognition import error_rates
from mmpt.evaluation.pages.suite import write_page
from mmpt.evaluation.suite import SuiteConfig, load_suite, run_suite
from mmpt.inference.load import load
from mmpt.media import encode_wav

from ..inference.tiny import write_checkpoint
from .scripted import Scripted, by_hand, coco, picture, run, sound, texts, values, write_rows

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(write_checkpoint(tmp_path_factory.mktemp("tiny")))


def test_intervals_are_those_of_the_binomial_and_the_same_every_time():
    hits = np.array([1.0] * 70 + [0.0] * 30)
    low, high = bootstrap(100, lambda chosen: hits[chosen].mean(), draws=4000)
    assert (low, high) == bootstrap(100, lambda chosen: hits[chosen].mean(), draws=4000)
    spread = 1.96 * math.sqrt(0.7 * 0.3 / 100)
    assert low == pytest.approx(0.7 - spread, abs=0.015) and high == pytest.approx(0.7 + spread, abs=0.015)


def gold(folder: Path, rows: list[dict]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "gold.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def spoken_score(model, path: Path) -> float:
    ids = model.tokenizer.encode([[_items.speech_file(path.parent, path.name)]])[0][0]
    return float(np.mean(by_hand(model, [model.tokenizer.vocabulary.special("<|begin|>"), *ids])))


@pytest.mark.parametrize("batch", [3, 32])
def test_swuggy(model, tmp_path, monkeypatch, batch):
    monkeypatch.setattr(pairs, "BATCH", batch)
    rows = [
        {"id": item, "filename": f"{item}_{voice}_{correct}", "voice": voice, "frequency": "", "word": "x", "correct": correct}
        for item in "ab"
        for voice in ("v1", "v2")
        for correct in "10"
    ]
    for number, row in enumerate(rows):
        sound(tmp_path / f"{row['filename']}.wav", 0.05 + 0.013 * number)
    gold(tmp_path, [*rows, {**rows[0], "id": "lonely"}])
    score = {row["filename"]: spoken_score(model, tmp_path / f"{row['filename']}.wav") for row in rows}
    by_item = [
        np.mean([preferred(score[f"{item}_{voice}_1"], score[f"{item}_{voice}_0"]) for voice in ("v1", "v2")]) for item in "ab"
    ]
    found = run({"kind": "pairs", "format": "zerospeech", "folder": str(tmp_path)}, model)
    assert values(found) == {"accuracy": pytest.approx(np.mean(by_item), abs=1e-6)} and found.measures[0].count == 2
    assert len(found.missing) == 1 and "lonely" in found.missing[0] and len(found.outcomes) == 4


def test_sblimp_written_with_a_figure_for_each_type(model, tmp_path):
    sentences = [("agreement", "the red circle", "circle the red"), ("agreement", "a blue square", "a blue square"),
                 ("binding", "someone says", "says someone")]  # fmt: skip
    rows = [
        {"id": number, "filename": "-", "voice": "v", "type": kind, "transcription": text, "correct": correct}
        for number, (kind, *both) in enumerate(sentences)
        for correct, text in zip("10", both, strict=True)
    ]
    gold(tmp_path, rows)
    begin = model.tokenizer.vocabulary.special("<|begin|>")

    def score(text: str) -> float:
        return sum(by_hand(model, [begin, *model.tokenizer.encode([[Text(text)]])[0][0]]))

    wanted = [1.0 if score(right) > score(wrong) else 0.0 for _, right, wrong in sentences]
    wanted[1] = 0.5  # the same sentence twice
    found = run({"kind": "pairs", "format": "zerospeech", "folder": str(tmp_path), "written": True, "normalise": "sum"}, model)
    assert values(found) == {
        "accuracy": pytest.approx(sum(wanted) / 3, abs=1e-6),
        "accuracy, agreement": pytest.approx((wanted[0] + 0.5) / 2, abs=1e-6),
        "accuracy, binding": pytest.approx(wanted[2], abs=1e-6),
    }


def test_storycloze_scores_the_ending_after_the_story(model, tmp_path):
    header = ["InputStoryid", *pairs.STORY, *pairs.ENDINGS, "AnswerRightEnding"]
    stories = [["s1", "the red", "circle", "above", "a", "blue square", "someone", "2"],
               ["s2", "a", "b", "c", "d", "e", "f", "1"], ["s3", "a", "b", "c", "d", "e", "f", "x"]]  # fmt: skip
    with open(tmp_path / "cloze.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *stories])
    begin, encode = model.tokenizer.vocabulary.special("<|begin|>"), lambda text: model.tokenizer.encode([[Text(text)]])[0][0]

    def score(story: str, ending: str) -> float:
        shared = [begin, *encode(story)]
        return float(np.mean(by_hand(model, [*shared, *encode(ending)])[len(shared) - 1 :]))

    first = score("the red circle above a", "someone") > score("the red circle above a", "blue square")
    second = score("a b c d", "e") > score("a b c d", "f")
    found = run({"kind": "pairs", "format": "story", "folder": str(tmp_path / "cloze.csv")}, model)
    assert values(found) == {"accuracy": pytest.approx((first + second) / 2, abs=1e-6)}
    assert found.missing == ("s3: AnswerRightEnding is 'x'",)
    with pytest.raises(DataError, match="no item to measure"):  # there is no speech in them
        run({"kind": "pairs", "format": "story", "folder": str(tmp_path / "cloze.csv"), "modality": "speech"}, model)


def test_spoken_stories(model, tmp_path):
    for number in range(3):
        sound(tmp_path / f"{number}_correct.wav", 0.05 + 0.01 * number)
        if number < 2:
            sound(tmp_path / f"{number}_incorrect.wav", 0.09 + 0.02 * number)
    both = [[spoken_score(model, tmp_path / f"{n}_{kind}.wav") for kind in ("correct", "incorrect")] for n in range(2)]
    wanted = [preferred(*scores) for scores in both]
    found = run({"kind": "pairs", "format": "spoken_story", "folder": str(tmp_path)}, model)
    assert values(found) == {"accuracy": pytest.approx(np.mean(wanted), abs=1e-6)}
    assert len(found.missing) == 1 and "2_incorrect.wav: no such file" in found.missing[0]


def librispeech(folder: Path, said: dict[str, str]) -> dict:
    chapter = folder / "1" / "2"
    for number, name in enumerate(said):
        sound(chapter / f"1-2-{name}.wav", 0.05 + 0.01 * number)
        (chapter / f"1-2-{name}.wav").rename(chapter / f"1-2-{name}.flac")
    (chapter / "1-2.trans.txt").write_text("".join(f"1-2-{name} {text}\n" for name, text in said.items()))
    return {"kind": "librispeech", "folder": str(folder)}


def test_recognition(tmp_path):
    source = librispeech(tmp_path, {"0000": "THE CAT SAT", "0001": "ON THE MAT TODAY"})
    scripted = Scripted(texts("The cat sat!", "on a mat"))
    found = run({"kind": "recognition", "source": source, "prompt": "transcribe"}, scripted)
    # 0 + (one substitution, one deletion) of 3 + 4 words; letters: "the mat today" → "a mat" …
    assert values(found)["WER"] == pytest.approx(2 / 7, abs=1e-6)
    assert values(found)["CER"] == pytest.approx(_edits("on the mat today", "on a mat") / (11 + 16), abs=1e-6)
    assert [type(part) for part in scripted.asked[0]] == [Text, Speech] and found.outcomes[0].score == 1.0
    low, high = next((one.low, one.high) for one in found.measures if one.name == "WER")
    assert (low, high) == (0.0, 0.5)


def _edits(one: str, other: str) -> int:
    """Levenshtein distance, by its definition."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def test_synthesis_is_read_back_from_the_sound(tmp_path):
    source = librispeech(tmp_path, {"0000": "ONE TWO", "0001": "THREE"})
    spoken = Speech(encode_wav(np.ones(1600, dtype=np.float32) * 0.1, 16_000), "wav", 16_000, 0.1)
    ears = SimpleNamespace(
        sample_rate=16_000, encode=lambda sounds: [len(s) for s in sounds], transcribe=lambda codes: ["one too"]
    )
    scripted = Scripted([(spoken,), ()], SimpleNamespace(speech=ears))
    found = run({"kind": "synthesis", "source": source}, scripted)
    assert values(found)["WER"] == pytest.approx(2 / 3, abs=1e-6)  # one word wrong, one utterance not spoken at all
    assert scripted.asked == [(Text("one two"),), (Text("three"),)]


@pytest.mark.parametrize("typed", [True, False])
def test_spoken_questions(tmp_path, typed):
    sound(tmp_path / "q.wav", 0.1)
    rows = [
        {"id": "a", "question": "Capital of France?", "audio": "q.wav", "answers": ["Paris", "City of Paris"]},
        {"id": "b", "question": "Two and two?", "audio": "q.wav", "answer": "four"},
        {"id": "c", "question": "Who?", "audio": "q.wav", "answers": ["Ada"]},
        {"id": "d", "question": "Lost?", "audio": "../secret.wav", "answers": ["x"]},
        {"id": "e", "audio": "q.wav"},
    ]
    file = write_rows(tmp_path / "questions.jsonl", rows[:3] if typed else rows)
    scripted = Scripted(texts("It is Paris.", "fourteen", "ADA lovelace"))
    found = run({"kind": "spoken_questions", "file": str(file), "typed": typed}, scripted)
    assert values(found) == {"accuracy": pytest.approx(2 / 3, abs=1e-6)}
    assert [outcome.score for outcome in found.outcomes] == [1.0, 0.0, 1.0]
    assert all(isinstance(asked[0], Text if typed else Speech) for asked in scripted.asked)
    assert len(found.missing) == (0 if typed else 2)
    assert typed or ("leads out of" in found.missing[0] and "answers" in found.missing[1])


def test_min_k(model, tmp_path):
    rows = [{"input": "the red circle above", "label": 1}, {"input": "someone says a blue", "label": 0},
            {"input": "square", "label": 1}, {"input": "seen by", "label": 0}, {"input": 3, "label": 1}]  # fmt: skip
    begin = model.tokenizer.vocabulary.special("<|begin|>")

    def score(text: str) -> float:
        found = sorted(by_hand(model, [begin, *model.tokenizer.encode([[Text(text)]])[0][0]]))
        return sum(found[: max(1, int(0.4 * len(found)))]) / max(1, int(0.4 * len(found)))

    scores = [(score(row["input"]), row["label"]) for row in rows[:4]]
    wanted = np.mean([seen > unseen for seen, a in scores if a for unseen, b in scores if not b])
    content = {"kind": "membership", "file": str(write_rows(tmp_path / "wiki.jsonl", rows)), "share": 0.4, "false_positives": 0.5}
    found = run(content, model)
    assert values(found)["AUROC"] == pytest.approx(wanted, abs=1e-6) and len(found.missing) == 1
    bar = min(unseen for unseen, label in scores if not label)
    assert values(found)["true positives at 0.5 false"] == np.mean([seen > bar for seen, label in scores if label])
    assert membership.true_positives(np.array([3.0, 1.0, 0.5]), np.array([2.0, 0.6, 0.1, 0.0]), 0.25) == pytest.approx(2 / 3)
    assert membership.min_k(np.array([-5.0, -1.0, -3.0, -2.0]), 0.5) == -4.0


def test_dc_pdd_by_its_definition(model, tmp_path):
    rows = [{"input": "the red circle above the red", "label": 1}, {"input": "someone says a blue", "label": 0}]
    common = ["the red circle", "the circle", "a blue"]
    file = write_rows(tmp_path / "wiki.jsonl", rows)
    reference = write_rows(tmp_path / "common.jsonl", [{"text": text} for text in common])
    vocabulary, size = model.tokenizer.vocabulary, model.tokenizer.vocabulary.text_size
    told = [token for text in common for token in model.tokenizer.encode([[Text(text)]])[0][0]]

    def score(text: str) -> float:
        ids = list(model.tokenizer.encode([[Text(text)]])[0][0])
        each, crossed = by_hand(model, [vocabulary.special("<|begin|>"), *ids]), []
        for place, token in enumerate(ids):
            if token not in ids[:place]:
                crossed.append(min(0.05, -math.exp(each[place]) * math.log((told.count(token) + 1) / (len(told) + size))))
        return sum(crossed) / len(crossed)

    content = {"kind": "membership", "file": str(file), "reference": str(reference), "ceiling": 0.05}
    found = run(content, model)
    wanted = [score(row["input"]) for row in rows]
    assert [float(outcome.found) for outcome in found.outcomes] == pytest.approx(wanted, rel=1e-3)
    assert values(found)["AUROC"] == float(wanted[0] > wanted[1])
    odds = np.full(size, 1 / size)
    assert membership.calibrated([3, 3], np.log([0.5, 0.1]), odds, 9.0) == pytest.approx(0.5 * math.log(size))


def test_a_suite_from_files_to_a_page(model, tmp_path):
    write_rows(tmp_path / "wiki.jsonl", [{"input": "the red", "label": 1}, {"input": "a <b>blue</b>", "label": 0}])
    test = coco(tmp_path, {"red": ["a red square"], "blue": ["a blue one"]})
    suite = tmp_path / "suite.yaml"
    suite.write_text(json.dumps({"benchmarks": [
        {"name": "seen", "kind": "membership", "file": str(tmp_path / "wiki.jsonl")},
        {"name": "captions", "kind": "captions", "test": test, "max_new_tokens": 8},
        {"name": "nowhere", "kind": "probing", "file": str(tmp_path / "no.json"), "images": str(tmp_path)},
    ]}))  # fmt: skip
    config = load_config(suite, SuiteConfig)
    outs = [tmp_path / name for name in ("one", "two")]
    for out in outs:
        assert len(run_suite(config, model, f"model {out.name}", out)) == 1
    content = json.loads((outs[0] / "results.json").read_text())
    assert [one["name"] for one in content["results"]] == ["seen", "captions"] and "no.json: no such file" in content["failed"][0]
    text = write_page(outs, tmp_path / "page.html").read_text()
    assert "model one" in text and "model two" in text and "CIDEr" in text and "<b>blue</b>" not in text
    assert 'src="http' not in text and "<script" not in text
    with pytest.raises(DataError, match="no such file"):
        write_page([tmp_path], tmp_path / "page.html")


@pytest.mark.slow
def test_an_interrupted_suite_goes_on_and_a_finished_one_starts_anew(model, tmp_path, monkeypatch):
    write_rows(tmp_path / "wiki.jsonl", [{"input": "the red", "label": 1}, {"input": "a blue", "label": 0}])
    kind = {"kind": "membership", "file": str(tmp_path / "wiki.jsonl")}
    config = SuiteConfig.model_validate({"benchmarks": [{"name": name, **kind} for name in ("first", "second", "third")]})
    done, killed = [], []

    measure = membership.Membership.run

    def runner(benchmark, model):
        if benchmark.name == "second" and not killed:
            killed.append(True)
            raise KeyboardInterrupt
        done.append(benchmark.name)
        return measure(benchmark, model)

    monkeypatch.setattr(membership.Membership, "run", runner)

    def content(name: str) -> dict:
        return json.loads((tmp_path / name / "results.json").read_text())

    with pytest.raises(KeyboardInterrupt):
        run_suite(config, model, "a model", tmp_path / "one", "weights 1")
    assert "was not finished" in write_page([tmp_path / "one"], tmp_path / "page.html").read_text()
    assert run_suite(config, model, "a model", tmp_path / "one", "weights 1") == []
    assert done == ["first", "second", "third"]
    assert run_suite(config, model, "a model", tmp_path / "two", "weights 1") == []
    assert {**content("one"), "finished": 0} == {**content("two"), "finished": 0}
    assert "was not finished" not in write_page([tmp_path / "one"], tmp_path / "page.html").read_text()
    run_suite(config, model, "a model", tmp_path / "one", "weights 1")
    assert done[6:] == ["first", "second", "third"]
    killed.clear()
    with pytest.raises(KeyboardInterrupt):
        run_suite(config, model, "a model", tmp_path / "one", "weights 1")
    run_suite(config, model, "a model", tmp_path / "one", "weights 2")  # other weights: nothing is kept
    assert done[9:] == ["first", "first", "second", "third"]
    # A benchmark that measures something else since then is measured again.
    killed.clear()
    with pytest.raises(KeyboardInterrupt):
        run_suite(config, model, "a model", tmp_path / "one", "weights 2")
    monkeypatch.setattr(membership.Membership, "version", 2)
    run_suite(config, model, "a model", tmp_path / "one", "weights 2")
    assert done[13:] == ["first", "first", "second", "third"]
    assert [one["version"] for one in content("one")["results"]] == [2, 2, 2]


def test_a_figure_that_is_no_number_is_an_error():
    with pytest.raises(DataError, match="WER: it is nan of these 2 items"):
        error_rates(["", "!"], ["a", "b"])


def test_the_example_suite_is_valid():
    suite = load_config(ROOT / "recipes" / "evaluate.yaml", SuiteConfig)
    assert {one.kind for one in suite.benchmarks} == set(Benchmark.names())  # every kind is shown
    for name in ("evaluate_quickstart.yaml", "evaluate_quickstart_real.yaml"):
        suite = load_suite(ROOT / "recipes" / name, Path("runs/a"))
        assert suite.benchmarks[0].source.folder == "runs/a/shards/test" and len(suite.benchmarks) == 6


def test_mistakes_in_a_suite_are_named(tmp_path):
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        json.dumps({"benchmarks": [{"name": "a", "kind": "pairs", "format": "story"}, {"name": "b", "kind": "dance"}]})
    )
    with pytest.raises(ConfigError, match=r"2 mistakes\n.*folder: missing\n.*dance"):
        load_config(suite, SuiteConfig)


def test_error_rates_add_up_over_pairs():
    wer, cer = error_rates(["a b c", ""], ["a x c", "noise"])
    assert wer.value == pytest.approx(2 / 3) and wer.better == "less" and cer.count == 2


def test_reading_stays_inside_its_folder(tmp_path):
    (tmp_path / "in").mkdir()
    picture(tmp_path / "out.png", "red")
    with pytest.raises(DataError, match="leads out of"):
        _items.image_file(tmp_path / "in", "../out.png")
