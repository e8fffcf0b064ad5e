"""The scripts of tokenizers/ as a person runs them, at toy size: nothing is learned, everything is written and read."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Speech, Text
from mmpt.media import decode_speech, encode_flac
from mmpt.storage import write_json
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer
from mmpt.tokenizers.text import decode_text, encode_text, load_text_tokenizer, train_text_tokenizer

pytestmark = pytest.mark.ranks

ROOT = Path(__file__).resolve().parents[2]
WORDS = {"do": 300, "re": 700, "mi": 1500}
FIT = {"steps": 6, "batch_size": 4, "optimizer": {"learning_rate": 0.001}, "run": {"log_every": 2, "save_every": 3}}
SPEECH = {
    "kind": "speech",
    "tokenizer": {
        "quantizer": {"kind": "ema", "codes": 8, "dim": 4},
        "encoder": {"dim": 16, "heads": 2, "conv_blocks": 1, "layers_pooled": 1, "layers_after": 1, "text_layers": 1},
        "decoder": {"dim": 16, "heads": 2, "layers": 1, "blocks": 1, "flow": {"dim": 16, "blocks": 1, "steps": 2}},
        "mels": 24,
        "window": 24,
        "quantize_from": 0.3,
    },
    "fit": FIT,
    "speak": FIT,
}
VOCODER = {
    "kind": "vocoder", "vocoder": {"mels": 24, "dim": 16, "blocks": 1, "crop": 16, "rate": 24_000, "window": 480},
    "adversaries": {"channels": 2, "start": 0.5}, "fit": FIT,
}  # fmt: skip


def run(script: str, *arguments: object, python: str = os.environ["WARM_PYTHON"]) -> subprocess.CompletedProcess:
    command = [python, str(ROOT / "tokenizers" / f"{script}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with shards of tones for words, and everything trained on them."""
    place = tmp_path_factory.mktemp("tokenizers")
    draw = np.random.default_rng(0)
    with ShardWriter(place / "shards", built={}) as writer:
        for number in range(10):
            words = list(draw.choice(list(WORDS), draw.integers(3, 6)))
            time = np.arange(4800) / 16_000
            samples = np.concatenate([0.3 * np.sin(2 * np.pi * WORDS[word] * time) for word in words]).astype(np.float32)
            part = Speech(encode_flac(samples, 16_000), "flac", 16_000, len(samples) / 16_000, " ".join(words))
            writer.write(Document(f"tones/{number}", "tones", (part,)))
    train_text_tokenizer([" ".join(WORDS)] * 5, 270).save_pretrained(place / "text")
    data = {"data": [str(place / "shards")]}
    text = {"text_tokenizer": str(place / "text")}
    specs = {
        "vocoder": {**VOCODER, **data},
        "speech": {**SPEECH, **data, **text, "vocoder": str(place / "vocoder" / "vocoder")},
        "text_to_codes": {
            "kind": "text_to_codes", "speech_tokenizer": str(place / "speech" / "tokenizer"),
            "model": {"dim": 16, "heads": 2, "layers": 1}, "fit": FIT, **data, **text,
        },
    }  # fmt: skip
    for name, spec in specs.items():
        write_json(place / f"{name}.yaml", spec)  # JSON is YAML
        done = run("train", place / f"{name}.yaml", place / name)
        assert done.returncode == 0, done.stderr[-3000:]
    return place


def test_training_writes_metrics_with_the_health_of_the_codebook(place):
    lines = [json.loads(line) for line in (place / "speech" / "recognition" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert {"perplexity", "entropy", "used", "restarts"} <= lines[-1].keys()
    assert (place / "text_to_codes" / "text_to_codes" / "manifest.json").exists()


def test_a_text_tokenizer_of_ones_own(place, tmp_path):
    with ShardWriter(tmp_path / "shards", built={}) as writer:
        writer.write(Document("1", "s", (Text("the old lamp is in the garden. " * 20),)))
    for name, shards in (("text", tmp_path / "shards"), ("none", place / "shards")):
        write_json(tmp_path / f"{name}.yaml", {"kind": "text", "data": [str(shards)], "ids": 300})
    assert run("train", tmp_path / "text.yaml", tmp_path / "text").returncode == 0
    tokenizer = load_text_tokenizer(tmp_path / "text" / "tokenizer")
    assert 256 < len(tokenizer) <= 300 and len(encode_text(tokenizer, "the old lamp")) == 3
    assert decode_text(tokenizer, encode_text(tokenizer, "é, any text?")) == "é, any text?"
    refused = run("train", tmp_path / "none.yaml", tmp_path / "none")
    assert refused.returncode == 2 and "no text in" in refused.stderr


def test_a_finished_training_is_not_done_again(place):
    """Neither stage takes a step again: no line of metrics is added, no checkpoint written anew."""

    def written() -> dict[Path, bytes | int]:
        lines = {file: file.read_bytes() for file in place.glob("speech/*/metrics.jsonl")}
        saved = place.glob("speech/*/checkpoints/*/model.safetensors")
        return {**lines, **{file: file.stat().st_mtime_ns for file in saved}}

    before = written()
    done = run("train", place / "speech.yaml", place / "speech")
    assert done.returncode == 0 and len(before) == 6 and written() == before


def test_codes_are_written_and_spoken(place):
    done = run("encode", place / "speech" / "tokenizer", place / "shards", place / "codes")
    assert done.returncode == 0 and "10 done" in done.stdout and "real-time factor" in done.stdout
    done = run("decode", place / "speech" / "tokenizer", place / "codes", place / "sound")
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in (place / "codes" / "codes.jsonl").read_text().splitlines()]
    assert len(lines) == 10
    for line in lines:
        sound = (place / "sound" / f"{line['id']}.flac").read_bytes()
        samples = decode_speech(sound)
        assert soundfile.info(io.BytesIO(sound)).samplerate == 24_000
        assert len(samples) == 1280 * len(line["codes"]) and abs(len(samples) / 16_000 - line["seconds"]) < 0.08


def test_a_decoder_is_learned_for_codes_that_are_there_and_must_pass_its_gates(place):
    tokenizer = place / "speech" / "tokenizer"
    assert run("encode", tokenizer, place / "shards", place / "known").returncode == 0
    decoder = {"dim": 16, "heads": 2, "layers": 1, "blocks": 1, "voice": 60, "reference": {"dim": 16, "blocks": 1}}
    spec = {
        "kind": "speaking", "data": [str(place / "shards")], "tokenizer": str(tokenizer), "crop": 10, "vocoder": "griffin_lim",
        "codes": str(place / "known" / "codes.jsonl"), "decoder": decoder, "fit": FIT, "held_out": str(place / "shards"),
        "gates": {"reconstruction_wer": 50},
    }  # fmt: skip
    write_json(place / "speaking.yaml", spec)
    done = run("train", place / "speaking.yaml", place / "speaking")
    assert done.returncode == 0 and "reconstruction_wer" in done.stdout, done.stderr[-3000:]
    short = run("train", place / "speaking.yaml", place / "speaking", "gates.stoi=1")
    assert short.returncode == 1 and "short" in short.stdout, short.stderr[-3000:]
    sound = (0.3 * np.sin(np.arange(16_000) / 5)).astype(np.float32)
    old, new = SpeechTokenizer.load(tokenizer), SpeechTokenizer.load(place / "speaking" / "tokenizer")
    assert np.array_equal(old.encode([sound])[0], new.encode([sound])[0])
    assert old.transcribe([np.arange(6)]) == new.transcribe([np.arange(6)])
    assert new.voice(sound).shape == (60,) and new.default_voice.abs().sum() > 0
    assert (old.sound_rate, new.sound_rate) == (24_000, 16_000)
    refused = run("train", place / "speaking.yaml", place / "other", f"decoder_from={tokenizer}")
    assert refused.returncode == 2 and "expected decoder or decoder_from, not both" in refused.stderr


def test_the_evaluation_prints_figures_and_a_page_with_sound(place):
    done = run("evaluate", place / "speech", place / "shards", "--limit", 6)
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(done.stdout)
    assert figures["utterances"] == 6 and 0 < figures["codes_used"] <= 1 and figures["codes_per_second"] == 12.5
    assert {"wer", "reconstruction_wer", "stoi", "mel_distance", "encoding_rtf", "entropy", "bits_per_second"} <= figures.keys()
    page = (place / "speech" / "evaluation.html").read_text()
    assert page.count("<audio") == 12 and "data:image/png" in page and "data:image/svg+xml" in page and "http://" not in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "spec.yaml", "out"), "spec.yaml"),
        (("encode", "nowhere", "in", "out"), "nowhere"),
        (("decode", "nowhere", "in", "out"), "nowhere"),
        (("generate", "nowhere", "in", "out"), "nowhere"),
        (("evaluate", "nowhere", "shards"), "nowhere"),
    ],
)
def test_a_mistake_is_one_clear_message(tmp_path, arguments, said):
    """Each script in an interpreter of its own, as a person starts it."""
    (tmp_path / "spec.yaml").write_text("kind: speech\n")
    script, *names = arguments
    done = run(script, *(tmp_path / name for name in names), python=sys.executable)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
