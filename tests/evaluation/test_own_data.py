"""The four directions and both tokenizers on documents of one's own: what the quickstart is measured by."""

from types import SimpleNamespace

import numpy as np
import pytest

from mmpt.data.shards.write import ShardWriter
from mmpt.data.synthetic import scenes
from mmpt.document import Document, Image, Speech, Text
from mmpt.errors import ConfigError
from mmpt.evaluation.suite import SuiteConfig, run_suite, suite_figures
from mmpt.inference.samplers.top_p import TopP
from mmpt.media import decode_image, encode_png, encode_wav

from .scripted import Scripted, run, texts, values

CAPTIONS = ("a small red circle above a large blue square on gray", "a large blue square left of a small red circle on white")


def drawn(caption: str) -> Image:
    return Image(encode_png(scenes.draw(scenes.read_caption(caption), seed=0)), "png", 64, 64, caption)


def said(text: str, pitch: float = 0.1) -> Speech:
    samples = (0.3 * np.sin(np.arange(1600) * pitch)).astype(np.float32)
    return Speech(encode_wav(samples, 16_000), "wav", 16_000, 0.1, text)


@pytest.fixture
def source(tmp_path) -> dict:
    with ShardWriter(tmp_path / "test", built={}) as writer:
        for number, caption in enumerate(CAPTIONS):
            parts = (said(caption, 0.1 + number), Text(caption), drawn(caption))
            writer.write(Document(str(number), "x", parts, {}))
        writer.write(Document("alone", "x", (Text("nothing else"),), {}))
    return {"kind": "shards", "folder": str(tmp_path / "test")}


def test_pictures_are_described_rightly_where_everything_is(source):
    scripted = Scripted(texts(CAPTIONS[0].upper(), CAPTIONS[1].replace("white", "gray")))
    found = run({"kind": "image_to_text", "source": source, "reader": "scenes", "prompt": "describe"}, scripted)
    assert values(found) == {"accuracy": 0.5} and [one.score for one in found.outcomes] == [1.0, 0.0]
    assert [type(part) for part in scripted.asked[0]] == [Text, Image] and scripted.settings["outputs"] == ["text"]
    assert len(found.missing) == 1 and found.missing[0].startswith("alone: ")


def test_drawn_pictures_are_read_back_from_their_pixels(source):
    scripted = Scripted([(Text("here"), drawn(CAPTIONS[0])), (Text(CAPTIONS[1]),)])  # the second has drawn nothing
    asked = {"kind": "text_to_image", "source": source, "reader": "scenes", "prompt": "draw", "allowed": "anything"}
    found = run({**asked, "sampler": {"temperature": 0.5}, "seed": 7}, scripted)
    assert values(found) == {"accuracy": 0.5} and [one.found for one in found.outcomes] == [CAPTIONS[0], ""]
    assert scripted.asked == [(Text("draw"), Text(one)) for one in CAPTIONS]  # two parts, as in training
    assert scripted.settings["image"] == TopP(temperature=0.5) and scripted.settings["seed"] == 7
    assert set(scripted.settings["outputs"]) == {"text", "image", "speech"} and "sampled (top_p, seed 7)" in found.method


class _Ears:
    """A speech tokenizer that knows a sound by its first sample that is not 0, and loses a word on the way through the sound."""

    sample_rate, sound_rate, codes = 16_000, 16_000, 4

    def encode(self, sounds):
        return [np.array([0, 1, 1] if abs(sound[1]) < 0.1 else [2, 1], dtype=np.int64) for sound in sounds]

    def transcribe(self, codes):
        return [CAPTIONS[0] if row[0] == 0 else CAPTIONS[1] for row in codes]

    def decode(self, codes):
        return [np.full(1600, 0.01, dtype=np.float32) for _ in codes]  # every one sounds like the first


def test_the_speech_tokenizer_alone(source):
    found = run({"kind": "speech_tokenizer", "source": source}, Scripted([], SimpleNamespace(speech=_Ears(), image=None)))
    # codes 0 1 1 and 2 1: counts 1 3 1 0, three of four used; entropy by hand, over that of four even ones.
    shares = np.array([1, 3, 1]) / 5
    one, two = (caption.split() for caption in CAPTIONS)
    assert found.counts == (1, 3, 1, 0)
    assert values(found)["codebook used"] == 0.75
    assert values(found)["codebook entropy"] == pytest.approx(-(shares * np.log(shares)).sum() / np.log(4), abs=1e-6)
    assert values(found)["tokenizer WER"] == 0.0
    assert values(found)["reconstruction WER"] == pytest.approx(_word_edits(two, one) / (len(one) + len(two)))
    assert [one.better for one in found.measures] == ["more", "more", "less", "less"]
    with pytest.raises(ConfigError, match="no speech tokenizer"):
        run({"kind": "speech_tokenizer", "source": source}, Scripted([], SimpleNamespace(speech=None, image=None)))


def _word_edits(one: list[str], other: list[str]) -> int:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


class _Eyes:
    """An image tokenizer of two codes that draws everything as the first picture."""

    codes = 2

    def encode(self, pictures):
        return np.array([[0, 1] if number == 0 else [1, 1] for number in range(len(pictures))])

    def render(self, codes):
        return [decode_image(drawn(CAPTIONS[0]).data) for _ in codes]

    def embed(self, pictures):
        raise AssertionError("nothing is compared")


def test_the_image_tokenizer_alone(source):
    eyes = Scripted([], SimpleNamespace(image=_Eyes(), speech=None))
    found = run({"kind": "image_tokenizer", "source": source, "reader": "scenes"}, eyes)
    assert values(found)["reconstruction accuracy"] == 0.5 and values(found)["codebook used"] == 1.0
    assert found.counts == (1, 3) and [one.found for one in found.outcomes] == [CAPTIONS[0]] * 2
    assert isinstance(found.outcomes[0].answered[0], Image)
    with pytest.raises(ConfigError, match="no image tokenizer"):
        run({"kind": "image_tokenizer", "source": source, "reader": "scenes"}, Scripted([], SimpleNamespace(image=None)))


def test_figures_are_named_for_benchmark_and_measure(source, tmp_path):
    asked = {"kind": "recognition", "source": source, "name": "speech_to_text", "allowed": "anything", "limit": 1}
    config = SuiteConfig.model_validate({"benchmarks": [asked]})
    told: list[str] = []
    answered = Scripted([(Text(CAPTIONS[0].replace("red", "blue")), said("x"))])
    assert run_suite(config, answered, "a model", tmp_path / "out", tell=told.append) == []
    words = len(CAPTIONS[0].split())
    assert suite_figures(tmp_path / "out")["speech_to_text_wer"] == round(1 / words, 4) and len(told) == 1
    assert set(answered.settings["outputs"]) == {"text", "image", "speech"}


def test_every_question_has_its_own_seed(source, monkeypatch):
    monkeypatch.setattr("mmpt.evaluation.benchmarks._asking.BATCH", 1)
    scripted = Scripted(texts(*CAPTIONS))
    run({"kind": "image_to_text", "source": source, "reader": "scenes", "seed": 3}, scripted)
    assert scripted.seeds == [3, 4]
