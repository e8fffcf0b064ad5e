"""Speech to lines of codes and back: every kind of bad input is listed, and a run that was stopped goes on."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from rich.console import Console
from rich.progress import Progress

from mmpt.data import codes_file, speech_codes
from mmpt.data.codes_file import read_codes
from mmpt.data.lost import from_lines
from mmpt.data.shards.write import ShardWriter
from mmpt.data.speech_codes import decode_codes, encode_speech
from mmpt.document import Document, Speech, Text
from mmpt.errors import ConfigError, DataError
from mmpt.media import decode_speech, encode_flac
from mmpt.tokenizers.speech.config import SpeechConfig
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer
from mmpt.tokenizers.text import train_text_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> SpeechTokenizer:
    torch.manual_seed(0)
    config = SpeechConfig(
        quantizer={"kind": "fsq", "levels": [8, 8]},
        encoder={"dim": 16, "heads": 2, "conv_blocks": 1, "layers_pooled": 1, "layers_after": 1},
        decoder={"dim": 16, "heads": 2, "layers": 1, "blocks": 1},
        mels=16,
        window=50,
    )
    return SpeechTokenizer(config, train_text_tokenizer(["a b"], 260)).eval()


@pytest.fixture
def progress():
    with Progress(console=Console(quiet=True)) as bars:
        yield bars


def sound(seconds: float, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.01, len(time))
    return (0.3 * np.sin(2 * np.pi * 400 * time) + noise).astype(np.float32)


def wav(samples: np.ndarray, rate: int = 16_000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def codes_in(out: Path) -> dict[str, list[int]]:
    return {line["id"]: line["codes"] for line in read_codes(out / "codes.jsonl")}


def test_every_kind_of_input_is_encoded_or_listed(tokenizer, progress, tmp_path):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    plain = sound(1.0)
    good = {
        "plain.wav": (wav(plain), 13),
        "silence.wav": (wav(np.zeros(16_000, np.float32)), 13),
        "clipped.wav": (wav(np.clip(20 * plain, -1, 1)), 13),
        "stereo.flac": (wav(np.stack([plain, plain], axis=1), kind="FLAC"), 13),
        "8khz.wav": (wav(sound(1.0, 8_000), 8_000), 13),
        "deep/48khz.ogg": (wav(sound(1.0, 48_000), 48_000, "OGG"), 13),
        "blink.wav": (wav(sound(0.02)), 1),
        "long.flac": (wav(np.tile(sound(60.0), 3), kind="FLAC"), 2250),
    }
    bad = {
        "nan.wav": (wav(np.full(900, np.nan, np.float32), subtype="FLOAT"), "NaN or infinity"),
        "cut.flac": (wav(sound(2.0), kind="FLAC")[:-9000], "cut short|no audio that can be decoded"),
        "cut.wav": (wav(plain)[:-500], "cut short"),
        "empty.wav": (b"", "no audio"),
        "nothing.wav": (wav(np.zeros(0, np.float32)), "not? a single sample|without a single sample"),
        "text.mp3": (b"these are words", "no audio"),
    }
    for name, (data, _) in {**good, **bad}.items():
        (folder / name).write_bytes(data)
    (folder / "notes.txt").write_text("not looked at")
    speed = encode_speech(tokenizer, folder, tmp_path / "out", progress)
    found = codes_in(tmp_path / "out")
    assert {name: len(codes) for name, codes in found.items()} == {name: count for name, (_, count) in good.items()}
    assert found["stereo.flac"] == tokenizer.encode([decode_speech((folder / "stereo.flac").read_bytes())])[0].tolist()
    lost = {one.item: one.reason for one in from_lines((tmp_path / "out" / "lost.jsonl").read_bytes())}
    assert lost.keys() == bad.keys()
    for name, (_, reason) in bad.items():
        assert re.search(reason, lost[name]), (name, lost[name])
    assert (speed.items, speed.lost, speed.skipped) == (8, 6, 0) and speed.amount == pytest.approx(186.02, abs=0.01)
    again = encode_speech(tokenizer, folder, tmp_path / "out", progress)
    assert (again.items, again.lost, again.skipped) == (0, 0, 14) and codes_in(tmp_path / "out") == found


def test_a_stopped_run_goes_on_where_it_was(tokenizer, progress, tmp_path, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02}.wav").write_bytes(b"bad" if number == 3 else wav(sound(0.2 + 0.1 * number, seed=number)))
    encode_speech(tokenizer, folder, tmp_path / "whole", progress)
    monkeypatch.setattr(speech_codes, "_TOGETHER", 1.0)
    append, calls = codes_file._append, []

    def stopped(path: Path, data: bytes) -> None:
        calls.append(path)
        if len(calls) == 5:
            path.open("ab").write(data[: len(data) // 2])
            raise KeyboardInterrupt
        append(path, data)

    monkeypatch.setattr(codes_file, "_append", stopped)
    with pytest.raises(KeyboardInterrupt):
        encode_speech(tokenizer, folder, tmp_path / "stopped", progress)
    monkeypatch.setattr(codes_file, "_append", append)
    speed = encode_speech(tokenizer, folder, tmp_path / "stopped", progress)
    assert 0 < speed.items < 11
    for name in ("codes.jsonl", "lost.jsonl"):
        lines = [(tmp_path / run / name).read_text().splitlines() for run in ("whole", "stopped")]
        assert sorted(lines[0]) == sorted(lines[1])


def test_utterances_of_shards_and_back_to_sound(tokenizer, progress, tmp_path):
    with ShardWriter(tmp_path / "shards", built={}) as writer:
        for number in range(3):
            data = encode_flac(sound(0.5 + number, seed=number), 16_000)
            part = Speech(data, "flac", 16_000, 0.5 + number, "a b")
            writer.write(Document(f"set/{number}", "set", (Text("before"), part)))
    encode_speech(tokenizer, tmp_path / "shards", tmp_path / "out", progress)
    found = codes_in(tmp_path / "out")
    assert list(found) == ["set/0/1", "set/1/1", "set/2/1"]
    speed = decode_codes(tokenizer, tmp_path / "out", tmp_path / "sound", progress)
    assert speed.items == 3 and speed.amount == pytest.approx(sum(map(len, found.values())) * 0.08)
    for name, expected in zip(found, tokenizer.decode([np.array(codes) for codes in found.values()]), strict=True):
        heard = decode_speech((tmp_path / "sound" / f"{name}.flac").read_bytes())
        np.testing.assert_allclose(heard, expected, atol=1e-4)
    (tmp_path / "sound" / "set" / "1" / "1.flac").unlink()
    assert decode_codes(tokenizer, tmp_path / "out", tmp_path / "sound", progress).items == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"id": "a", "seconds": 1, "codes": [99]}, "codes 99"),
        ({"id": "../a", "seconds": 1, "codes": [9]}, "no name of a file"),
        ({"id": "/a", "seconds": 1, "codes": [9]}, "no name of a file"),
        ({"id": "a", "codes": ["9"]}, "line 1: no line of codes"),
        ({"codes": [9]}, "line 1: no line of codes"),
        ([], "line 1: no line of codes"),
    ],
)
def test_lines_that_cannot_be_spoken(tokenizer, progress, tmp_path, line, said):
    (tmp_path / "codes.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(DataError, match=said):
        decode_codes(tokenizer, tmp_path, tmp_path / "sound", progress)


def test_nothing_to_encode_is_said(tokenizer, progress, tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        encode_speech(tokenizer, tmp_path / "none", tmp_path / "out", progress)
    (tmp_path / "in").mkdir()
    with pytest.raises(ConfigError, match="neither document shards nor a file of .wav"):
        encode_speech(tokenizer, tmp_path / "in", tmp_path / "out", progress)
