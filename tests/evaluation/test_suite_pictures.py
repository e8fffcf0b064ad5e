"""Benchmarks on pictures: tiny sets in their own formats, given answers, scores worked out by hand."""

import json
import math
import sys
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

from mmpt.document import Image, Part, Text
from mmpt.errors import ConfigError, DataError
from mmpt.evaluation.benchmarks import multi_image
from mmpt.media import encode_png

from .scripted import Scripted, coco, picture, run, texts, values, write_rows


def cider_by_hand(references: list[list[str]], said: list[str]) -> list[float]:
    """Vedantam et al. 2015, eq. 2 and 3, with the length penalty and clipping of CIDEr-D, in plain Python."""

    def grams(text: str, n: int) -> dict:
        words = text.split()
        found: dict = {}
        for i in range(len(words) - n + 1):
            found[tuple(words[i : i + n])] = found.get(tuple(words[i : i + n]), 0) + 1
        return found

    documents = math.log(float(len(references)))
    scores = []
    for own, text in zip(references, said, strict=True):
        total = []
        for n in range(1, 5):
            frequency: dict = {}
            for others in references:
                for gram in {gram for one in others for gram in grams(one, n)}:
                    frequency[gram] = frequency.get(gram, 0) + 1

            def vector(one: str, n=n, frequency=frequency) -> dict:
                return {g: count * (documents - math.log(max(1.0, frequency.get(g, 0)))) for g, count in grams(one, n).items()}

            mine = vector(text)
            each = []
            for one in own:
                theirs = vector(one)
                norm = math.sqrt(sum(v * v for v in mine.values())) * math.sqrt(sum(v * v for v in theirs.values()))
                product = sum(min(mine[g], theirs.get(g, 0.0)) * theirs.get(g, 0.0) for g in mine)
                # pycocoevalcap measures length in bigrams
                delta = max(0, len(text.split()) - 1) - max(0, len(one.split()) - 1)
                each.append((product / norm if norm else 0.0) * math.exp(-(delta**2) / (2 * 6.0**2)))
            total.append(sum(each) / len(each))
        scores.append(10 * sum(total) / 4)
    return scores


def test_captions_by_cider_and_bleu(tmp_path):
    said = {"red": ["a red square", "the picture is red"], "blue": ["a blue square on nothing"], "lime": ["green all over"]}
    answers = ["a red square", "a blue circle", "yes"]
    found = run({"kind": "captions", "test": coco(tmp_path, said), "prompt": "describe"}, Scripted(texts(*answers)))
    wanted = cider_by_hand([list(own) for own in said.values()], answers)
    assert [outcome.score for outcome in found.outcomes] == pytest.approx(wanted, abs=1e-6)
    assert values(found)["CIDEr"] == pytest.approx(sum(wanted) / 3, abs=1e-6)
    # 3 of 3, 2 of 3 and 0 of 1 words; lengths 7 against 3 + 5 + 3 = 11.
    assert values(found)["BLEU-1"] == pytest.approx(5 / 7 * math.exp(1 - 11 / 7), abs=1e-6)


def test_few_shot_examples_at_random_and_the_most_alike(tmp_path):
    support = {"darkred": ["dark red"], "navy": ["navy"], "green": ["green"], "white": ["white"]}
    shown, test = coco(tmp_path / "support", support), coco(tmp_path / "test", {"red": ["red"], "blue": ["blue"]})
    embed = {
        "red": [1.0, 0.0],
        "darkred": [0.9, 0.1],
        "navy": [0.0, 0.8],
        "green": [0.3, 0.3],
        "white": [0.5, 0.5],
        "blue": [0.0, 1.0],
    }
    known = {PIL.Image.new("RGB", (1, 1), name).getpixel((0, 0)): vector for name, vector in embed.items()}
    eyes = SimpleNamespace(image=SimpleNamespace(embed=lambda pictures: np.array([known[p.getpixel((0, 0))] for p in pictures])))
    asked = {}
    for choose in ("rices", "random"):
        scripted = Scripted(texts("red", "blue"), eyes)
        content = {"kind": "captions", "test": test, "support": shown, "shots": 2, "choose": choose, "prompt": "say"}
        run(content, scripted)
        asked[choose] = [[part.text for part in one if isinstance(part, Text)] for one in scripted.asked]
        assert [type(part) for part in scripted.asked[0]] == [Text, Image, Text, Text, Image, Text, Text, Image]
    assert asked["rices"] == [["say", "white", "say", "dark red", "say"], ["say", "white", "say", "navy", "say"]]
    again = Scripted(texts("red", "blue"), eyes)
    run({"kind": "captions", "test": test, "support": shown, "shots": 2, "prompt": "say"}, again)
    assert [[part.text for part in one if isinstance(part, Text)] for one in again.asked] == asked["random"]
    with pytest.raises(ValueError, match="support, which is missing"):
        run({"kind": "captions", "test": test, "shots": 2}, scripted)


def test_retrieval(tmp_path):
    files = coco(tmp_path, {"red": ["crimson", "ruby"], "blue": ["azure"], "lime": ["grass"]})
    vectors = {"crimson": [1, 0, 0], "ruby": [0, 0.5, 0], "azure": [0, 1, 0], "grass": [0.4, 0, 0.3]}
    shown = np.array([[0.9, 0.1, 0.0], [0.2, 0.9, 0.1], [0.8, 0.0, 0.5]])
    eyes = SimpleNamespace(embed=lambda pictures: shown, embed_texts=lambda texts: np.array([vectors[t] for t in texts], float))
    found = run({"kind": "retrieval", "test": files, "at": [1, 2]}, Scripted([], SimpleNamespace(image=eyes)))
    # pictures: red → crimson, right; blue → azure, right; lime → crimson .8, grass .47: right at 2.
    # captions: crimson → red .9, right; ruby → blue .45, red .05 before lime 0: right at 2; azure → blue; grass → lime .47.
    assert values(found) == {
        "picture to text R@1": pytest.approx(2 / 3), "picture to text R@2": 1.0,
        "text to picture R@1": pytest.approx(3 / 4), "text to picture R@2": 1.0,
    }  # fmt: skip


def test_probing_by_popes_rule(tmp_path):
    for name in ("one", "two"):
        picture(tmp_path / "images" / f"{name}.png", "red")
    rows = [
        {"question_id": n, "image": f"{name}.png", "text": "Is there a dog in the image?", "label": label}
        for n, (name, label) in enumerate([("one", "yes"), ("one", "no"), ("two", "yes"), ("two", "no"), ("gone", "no")])
    ]
    answers = texts("Yes, there is. No doubt.", "There is not.", "No", "a dog")
    content = {"kind": "probing", "file": str(write_rows(tmp_path / "pope.json", rows)), "images": str(tmp_path / "images")}
    found = run(content, Scripted(answers))
    # said yes, no, no, yes against yes, no, yes, no: one of two is right on each side.
    assert values(found) == {"accuracy": 0.5, "precision": 0.5, "recall": 0.5, "F1": 0.5, "share of yes": 0.5}
    assert len(found.missing) == 1 and "gone.png: no such file" in found.missing[0]


def test_questions_about_several_pictures(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png", "red")
    base_row = {"images": ["a.png", "b.png"], "question": "Compare <image> with <image>.", "options": ["same", "other"]}
    rows = [
        {**base_row, "id": "1", "question_type": "multi-choice", "answer": "B"},
        {**base_row, "id": "2", "question_type": "multi-choice", "answer": "A"},
        {**base_row, "id": "3", "question_type": "short-answer", "answer": "Two dogs", "question": "How many?"},
        {**base_row, "id": "4", "question_type": "short-answer", "answer": "x", "question": "<image><image><image>"},
    ]
    (tmp_path / "mantis.json").write_text(json.dumps(rows))
    scripted = Scripted(texts("(B) other", "The answer is B", "two dogs."))
    found = run({"kind": "multi_image", "file": str(tmp_path / "mantis.json"), "images": str(tmp_path)}, scripted)
    assert values(found) == {
        "accuracy": pytest.approx(2 / 3), "accuracy, multi-choice": 0.5, "accuracy, short-answer": 1.0,
    }  # fmt: skip
    shown = scripted.asked[0]
    assert [type(part) for part in shown] == [Text, Image, Text, Image, Text] and shown[-1].text == ".\n(A) same\n(B) other"
    assert [type(part) for part in scripted.asked[2]] == [Image, Image, Text]
    assert found.missing == ("4: 3 places for 2 pictures",)


@pytest.mark.parametrize(
    ("text", "letter"),
    [("B", "B"), ("(c)", "C"), ("Answer: D", "D"), ("b.", "B"), ("the answer is a", "A"), ("none", ""), ("", ""), ("A dog", "A")],
)
def test_the_letter_of_an_answer(text, letter):
    assert multi_image.letter_of(text) == letter


def judge(asked: Sequence[Part], answered: Sequence[Part], aspect: str) -> float:
    return 4.0 if aspect == "helpfulness" else float(len(answered))


def test_interleaved_generation_with_a_judge(tmp_path, monkeypatch):
    picture(tmp_path / "a.png", "red")
    rows = [
        {"id": "1", "instruction": "Draw <image> again", "images": ["a.png"], "task": "edit"},
        {"id": "2", "instruction": "Tell a story", "task": "story"},
    ]
    drawn = Image(encode_png(PIL.Image.new("RGB", (4, 4))), "png", 4, 4)
    content = {"kind": "interleaved", "file": str(write_rows(tmp_path / "rows.jsonl", rows)), "images": str(tmp_path)}
    answers = [(Text("here"), drawn), (Text("once"),)]
    plain = run(content, Scripted(answers))
    assert values(plain) == {"text": 5.0, "pictures": 2.5, "all aspects, edit": 5.0, "all aspects, story": 2.5}
    monkeypatch.setitem(sys.modules, "my_judge", SimpleNamespace(judge=judge, bad=lambda *_: 9.0))
    judged = run({**content, "judge": "my_judge:judge", "aspects": ["text quality", "helpfulness"]}, Scripted(answers))
    assert values(judged)["text quality"] == 1.5 and values(judged)["helpfulness"] == 4.0
    with pytest.raises(DataError, match="gives 9.0 for text quality"):
        run({**content, "judge": "my_judge:bad"}, Scripted(answers))
    with pytest.raises(ConfigError, match="expected package.module:function"):
        run({**content, "judge": "nowhere_at_all:judge"}, Scripted(answers))
