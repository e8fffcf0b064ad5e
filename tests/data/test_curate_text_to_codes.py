"""Text to token shards with spans of codes: words are kept, spans are those of `draw_spans`, any number of processes gives the
same bytes."""

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from rich.console import Console
from rich.progress import Progress

from mmpt.data.curate.job import curate
from mmpt.data.curate.portions import ShardSets
from mmpt.data.curate.spans import word_spans
from mmpt.data.curate.steps.interleave import Interleave
from mmpt.data.curate.voices.text_to_codes import _pieces
from mmpt.data.engine.run import RunConfig
from mmpt.data.lost import from_lines
from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Image, Text
from mmpt.media import encode_png
from mmpt.tokenizers.speech.text_to_codes import SpeechCodes, Spoken, TextToCodes, TextToCodesConfig
from mmpt.tokenizers.text import load_text_tokenizer, train_text_tokenizer

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "—", "zeta", "eta", "theta", "iota", "kappa"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model that ends soon, and the language model's text tokenizer."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    text = train_text_tokenizer([" ".join(WORDS)] * 9, 300)
    model = TextToCodes(TextToCodesConfig(dim=16, layers=1, heads=2, more_codes=200), text, SpeechCodes(6, 12.5, "x" * 64))
    model.save(folder / "model")
    train_text_tokenizer([" ".join(reversed(WORDS)) + " and other words"] * 9, 320).save_pretrained(folder / "text")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("corpus") / "set", np.random.default_rng(0)
    picture = Image(encode_png(Picture.new("RGB", (4, 4))), "png", 4, 4)
    with ShardWriter(folder, built={}, max_documents=8) as writer:
        for number in range(30):
            text = "  ".join(draw.choice(WORDS, draw.integers(1, 40)))
            parts = (Text(text, 0.5),) if number else (picture, Text(text))
            writer.write(Document(f"d{number}", "test", parts))
    return folder


def spec(models, **changes) -> Interleave:
    speech = {"kind": "text_to_codes", "model": models / "model", "text": str(models / "text"), "temperature": 1.0}
    return Interleave(**{"mean_words": 3, "ratio": 0.4, "speech": speech, **changes})


def run(config: Interleave, corpus, out, processes: int = 1) -> TokenShards:
    with Progress(console=Console(quiet=True)) as progress:
        curate(config, [corpus], out, RunConfig(processes=processes, max_lost=0.5), progress)
    return TokenShards(out)


def test_text_and_codes_take_turns_and_no_word_is_lost(models, corpus, tmp_path):
    config = spec(models)
    found = run(config, corpus, tmp_path / "out")
    vocabulary = found.vocabulary
    lost = from_lines((tmp_path / "out" / "lost.jsonl").read_bytes())
    assert [one.item for one in lost if one.whole] == ["d0"] and len(found) == 29
    blocks = 0
    for number in range(len(found)):
        document = found[number]
        parts = vocabulary.split(document.ids[1:-1].tolist())
        for modality, values in parts:
            if modality == "speech":
                blocks += 1
                assert len(values) and values.max() < 6
        assert document.weights[0] == 0 and set(document.weights[1:-1]) == {0.5} and document.weights[-1] == 1
    assert blocks > 20


def test_the_words_are_those_of_the_source(models, corpus, tmp_path, monkeypatch):
    """With a model that says each span in one code, the spans can be put back in their places."""
    monkeypatch.setattr(TextToCodes, "speak", lambda self, texts, **_: [Spoken(np.array([len(one) % 6]), True) for one in texts])
    config = spec(models)
    sets = ShardSets(folders=(str(corpus),))
    text = load_text_tokenizer(models / "text")
    vocabulary = config.vocabulary()
    for unit in sets.units():
        sources = {one.id: one for one in sets.documents(unit)}
        for document in config.run(sets.documents(unit)):
            if not hasattr(document, "ids"):
                continue
            spans, pieces = iter(asked_of(sources[document.id], config)), []
            for modality, values in vocabulary.split(document.ids[1:-1].tolist()):
                pieces.append(next(spans) if modality == "speech" else text.decode(values.tolist()))
            joined = "".join(pieces).split()
            assert joined == sources[document.id].parts[-1].text.split()


def asked_of(document: Document, config: Interleave) -> list[str]:
    """Spans that can be said, with the spaces around them that the tokens of the text beside them leave out."""
    pieces = _pieces(document.parts[-1], document, config)
    return [f" {content} " for spoken, content, _ in pieces if spoken and any(c.isalnum() for c in content)]


def test_pictures_stay_in_place_in_the_vocabulary_of_other_shards(models, corpus, tmp_path):
    from mmpt.tokenizers.image.config import ImageTokenizerConfig
    from mmpt.tokenizers.image.tokenizer import ImageTokenizer

    torch.manual_seed(0)
    narrow = {"width": 16, "depth": 0, "heads": 2}
    config = ImageTokenizerConfig.model_validate({
        "side": 16, "tower": {"patch": 8, **narrow}, "qformer": {"queries": 3, "width": 16, "depth": 1, "heads": 2},
        "quantizer": {"kind": "ema", "codes": 9, "dim": 4}, "decoder": {"patch": 8, **narrow}, "captions": {**narrow, "depth": 1},
    })  # fmt: skip
    tokenizer = ImageTokenizer(config)
    tokenizer.save(tmp_path / "image")
    given = spec(models)
    speech = given.speech.model_copy(update={"image": tmp_path / "image"})
    found = run(given.model_copy(update={"speech": speech}), corpus, tmp_path / "out")
    assert len(found) == 30 and not (tmp_path / "out" / "lost.jsonl").read_bytes().count(b'"whole": true')
    assert (found.vocabulary.image_codes, found.vocabulary.codes_per_image, found.vocabulary.speech_codes) == (9, 3, 6)
    blocks = found.vocabulary.split(found[0].ids[1:-1].tolist())
    assert [kind for kind, _ in blocks].count("image") == 1 and blocks[0][0] == "image"
    expected = ImageTokenizer.load(tmp_path / "image").encode([Picture.new("RGB", (4, 4))])[0]
    assert blocks[0][1].tolist() == list(expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("two words, no more", ["two", "words,", "no", "more"]),
        ("我喜欢茶。好", ["我", "喜", "欢", "茶。", "好"]),
        ("お茶 please", ["お", "茶", "please"]),
        ("GPT很好", ["GPT", "很", "好"]),
        ("  ", []),
    ],
)
def test_words_of_scripts_without_spaces_are_their_characters(text, words):
    assert [text[start:end] for start, end in word_spans(text)] == words


def test_any_number_of_processes_gives_the_same_bytes(models, corpus, tmp_path):
    run(spec(models), corpus, tmp_path / "one")
    run(spec(models), corpus, tmp_path / "two", processes=2)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)


def test_another_epoch_other_spans_and_no_share_no_speech(models, corpus, tmp_path):
    one, other = (run(spec(models, epoch=epoch), corpus, tmp_path / f"{epoch}") for epoch in (0, 1))
    assert any(not np.array_equal(one[i].ids, other[i].ids) for i in range(len(one)))
    silent = run(spec(models, ratio=0.0), corpus, tmp_path / "silent")
    assert all(
        modality == "text" for i in range(len(silent)) for modality, _ in silent.vocabulary.split(silent[i].ids[1:-1].tolist())
    )


def test_a_conversation_is_listed_and_not_run_together(models, tmp_path):
    said = (Text("ask a question", role="user"), Text("answer it", role="assistant", turn=1))
    with ShardWriter(tmp_path / "in", built={}) as writer:
        writer.write(Document("talk", "s", said))
        writer.write(Document("plain", "s", (Text("one two three"),)))
    curate(spec(models), [tmp_path / "in"], tmp_path / "out", RunConfig(max_lost=1.0))
    assert [one.id for one in TokenShards(tmp_path / "out")] == ["plain"]
    lost = [one for one in from_lines((tmp_path / "out" / "lost.jsonl").read_bytes()) if one.whole]
    assert [(one.document, "conversation" in one.reason) for one in lost] == [("talk", True)]
