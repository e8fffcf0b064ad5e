"""Scores against hand-computed values, and a report that holds what it is given."""

import json

import numpy as np
import pytest
from PIL import Image as Pillow

from mmpt.data.shards.write import ShardWriter
from mmpt.data.synthetic import scenes
from mmpt.document import Document, Image, Speech, Text
from mmpt.errors import DataError
from mmpt.evaluation.metrics.recognition import normalise, word_error_rate
from mmpt.evaluation.pages.quickstart import write_report
from mmpt.evaluation.readers.nearest_neighbour import NearestNeighbour, nearest_neighbour_reader
from mmpt.evaluation.readers.scenes import Scenes, read_scene
from mmpt.evaluation.suite import FORMAT
from mmpt.media import encode_png, encode_wav
from mmpt.results import Figure, report


def test_word_error_rate_by_hand():
    references = ["one two three four", "five six"]
    assert word_error_rate(references, references) == 0
    assert word_error_rate(references, ["one too three", "five six six"]) == pytest.approx(3 / 6)  # one each of S, D, I
    assert word_error_rate(["Hello, World!"], ["hello world"]) == 0
    assert word_error_rate(["one two"], [""]) == 1


def test_normalise():
    assert normalise("  It's  A_test -- OK?! ") == "it's a test ok"


def test_same_scene_compares_every_attribute():
    one = "a small red circle above a large blue square on gray"
    assert Scenes().same(one, "A small red circle  above a large blue square on gray")
    assert not Scenes().same(one, "a large blue square above a small red circle on gray")
    assert not Scenes().same(one, one.replace("gray", "white"))
    assert not Scenes().same(one, "") and not Scenes().same("nonsense", "nonsense")


def test_an_empty_picture_shows_no_scene():
    assert read_scene(Pillow.new("RGB", (64, 64), scenes.BACKGROUNDS["white"])) == ""


def test_nearest_neighbours_vote():
    black, white = Pillow.new("L", (8, 8), 0), Pillow.new("L", (8, 8), 255)
    read = nearest_neighbour_reader([black, white, white], ["dark", "light", "light"], side=8, neighbours=1)
    assert read(Pillow.new("RGB", (8, 8), (40, 40, 40))) == "dark"
    assert read(Pillow.new("RGB", (30, 30), (200, 200, 200))) == "light"
    assert nearest_neighbour_reader([black, white, white], ["dark", "light", "light"], side=8, neighbours=3)(black) == "light"


def test_a_reader_of_classes_learns_them_from_shards(tmp_path):
    with ShardWriter(tmp_path / "train", built={}) as writer:
        for number, (shade, name) in enumerate([(0, "dark"), (255, "light"), (250, "light")]):
            shown = Image(encode_png(Pillow.new("L", (8, 8), shade)), "png", 8, 8)
            writer.write(Document(str(number), "x", (shown, Text("an", 0), Text(name)), {}))
        writer.write(Document("text", "x", (Text("nothing to see"),), {}))
    reader = NearestNeighbour(examples=tmp_path / "train", neighbours=1)
    read = reader.build()
    assert [read(Pillow.new("RGB", (20, 20), (shade,) * 3)) for shade in (30, 200)] == ["dark", "light"]
    assert reader.same("Light!", "light") and not reader.same("light", "dark")
    with ShardWriter(tmp_path / "none", built={}) as writer:
        writer.write(Document("text", "x", (Text("nothing to see"),), {}))
    with pytest.raises(DataError, match="begins with a picture"):
        NearestNeighbour(examples=tmp_path / "none").build()


def test_figures_are_held_against_their_bars(tmp_path, capsys):
    good, bad = Figure("wer", 0.1, 0.2, at_most=True), Figure("accuracy", 0.5, 0.6)
    assert report([good, Figure("free", 3.0)], tmp_path / "r.json")
    assert not report([good, bad], tmp_path / "r.json")
    assert "short" in capsys.readouterr().out
    result = json.loads((tmp_path / "r.json").read_text())
    assert [row["ok"] for row in result["figures"]] == [True, False]
    assert {"device", "packages", "commit", "date"} <= set(result)


def test_the_report_shows_every_part_and_escapes_text(tmp_path):
    picture = Image(encode_png(Pillow.new("RGB", (4, 4))), "png", 4, 4)
    sound = Speech(encode_wav(np.zeros(160, dtype=np.float32), 16000), "wav", 16000, 0.01, "<b>said</b>")
    evaluation = tmp_path / "evaluation"
    shown = {  # name: kind, codes, (asked, answered, expected, found, score)
        "speech": ("speech_tokenizer", [3, 0, 1], (sound, sound, "<b>said</b>", "a", 0.5)),
        "image": ("image_tokenizer", [1, 1], (picture, picture, "a", "a", 1.0)),
        "text_to_image": ("text_to_image", [], (Text("draw <script>"), picture, "a", "b", 0.0)),
        "text_to_speech": ("synthesis", [], (Text("say a"), sound, "a", "a", 1.0)),
    }
    results = []
    for name, (kind, codes, (asked, answered, expected, found, score)) in shown.items():
        with ShardWriter(evaluation / "examples" / name, built={}) as writer:
            meta = {"asked": 1, "expected": expected, "found": found, "score": score}
            writer.write(Document(name, "x", (asked, answered), meta))
        results.append({"name": name, "kind": kind, "counts": codes, "examples": f"examples/{name}", "measures": []})
    (evaluation / "results.json").write_text(json.dumps({"format": FORMAT, "results": results}))
    (tmp_path / "pretrain").mkdir()
    (tmp_path / "pretrain" / "metrics.jsonl").write_text('{"step": 1, "nll": {"text": 2.0}}\n{"step": 2, "nll": {"text": 1.0}}\n')
    names = ["speech_to_text_wer", "text_to_speech_wer", "image_to_text_accuracy", "text_to_image_accuracy"]
    names += ["speech_codebook_used", "image_codebook_used", "speech_tokenizer_wer", "speech_reconstruction_wer"]
    metrics = dict.fromkeys([*names, "image_reconstruction_accuracy"], 0.5)
    page = write_report(tmp_path, {**metrics, "seconds": 90.0, "peak_rss_gib": 2.0, "stages": {"corpus": 90.0}}).read_text()
    assert page.count("<audio") == 3 and page.count("data:image/png") == 3 and page.count("data:image/svg+xml") == 3
    assert "<script>" not in page and "draw &lt;script&gt;" in page and "&lt;b&gt;said" in page
    assert 'class="wrong"' in page and 'class="right"' in page and "50.0 %" in page
