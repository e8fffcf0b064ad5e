"""The command line: nothing is overwritten, and what was meant is said where a path is another."""

import sys

import numpy as np
import pytest
from PIL import Image

from mmpt.cli import main
from mmpt.commands.generate import _read_part
from mmpt.errors import CheckpointError, ConfigError
from mmpt.inference.document_page import keep
from mmpt.media import encode_png, encode_wav
from mmpt.model.checkpoints import find_checkpoint
from mmpt.storage import is_missing_folder, published_folder
from mmpt.tokenizers.text import load_text_tokenizer


def run(monkeypatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mmpt", *map(str, words)])
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    return 0


def test_an_answer_takes_the_next_free_number(tmp_path):
    (tmp_path / "answer-1.png").write_bytes(b"mine")
    names = [keep(tmp_path, suffix, b"new").name for suffix in ("png", "wav", "png", "png")]
    assert names == ["answer-0.png", "answer-0.wav", "answer-2.png", "answer-3.png"]
    assert (tmp_path / "answer-1.png").read_bytes() == b"mine"


def checkpoint(folder, kind: str = "mmpt-checkpoint/1"):
    with published_folder(folder, {"format": kind}) as temporary:
        (temporary / "a").write_text("a")
    return folder


def test_a_path_stands_for_its_newest_checkpoint_or_is_told_what_it_is(tmp_path):
    for step in (5, 12):
        checkpoint(tmp_path / "run" / "checkpoints" / f"step-{step:08d}")
    newest = tmp_path / "run" / "checkpoints" / "step-00000012"
    assert find_checkpoint(tmp_path / "run") == newest == find_checkpoint(newest)
    with pytest.raises(CheckpointError, match="exported for other engines; give the run"):
        find_checkpoint(checkpoint(tmp_path / "exported", "mmpt-export/1"))
    with pytest.raises(CheckpointError, match="no such folder"):
        find_checkpoint(tmp_path / "none")
    with pytest.raises(CheckpointError, match="neither a checkpoint"):
        find_checkpoint(tmp_path)


def test_the_same_checkpoint_is_averaged_once(tmp_path, monkeypatch, capsys):
    own = checkpoint(tmp_path / "run" / "checkpoints" / "step-00000001")
    assert run(monkeypatch, "soup", tmp_path / "run", own, "--out", tmp_path / "soup") == 2
    assert f"{own}: {own}, which {tmp_path / 'run'} is already" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["generate", "serve"])
def test_a_renderer_that_is_none_is_told_before_anything_is_loaded(command, tmp_path, monkeypatch, capsys):
    checkpoint(tmp_path / "run" / "checkpoints" / "step-00000001")
    words = ["--text", "a"] if command == "generate" else []
    assert run(monkeypatch, command, tmp_path / "run", *words, "--renderer", "unclp") == 2
    assert "no renderer 'unclp', did you mean unclip" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sampler", "{kind: min_q}"], "text: no sampler 'min_q', did you mean min_p?"),
        (["--sampler", "{kind: min_p, min_p: 2}"], "image.min_p: "),
        (["--sampler", "[a"], "--sampler: not valid YAML"),
        (["--sampler", "min_p", "--top-k", 3], "it goes without --temperature"),
        (["--sampler", "greedy", "--image-temperature", 1], "greedy takes no temperature"),
        (["--temperature", -1], "text.temperature"),
        (["--max-tokens", 0], "max_new_tokens"),
    ],
)
def test_wrong_sampling_is_told_before_anything_is_read(options, said, tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "generate", tmp_path / "none", "--text", "a", *options) == 2
    assert said in capsys.readouterr().err


def test_files_of_a_prompt_have_their_size(tmp_path):
    (tmp_path / "a.png").write_bytes(encode_png(Image.new("RGB", (7, 3))))
    (tmp_path / "a.wav").write_bytes(encode_wav(np.zeros(800, dtype=np.float32), 16_000))
    picture, sound = _read_part("image", str(tmp_path / "a.png")), _read_part("speech", str(tmp_path / "a.wav"))
    assert (picture.width, picture.height, picture.suffix) == (7, 3, "png")
    assert (sound.sample_rate, sound.duration, sound.suffix) == (16_000, 0.05, "wav")


def test_the_version_is_told(monkeypatch, capsys):
    assert run(monkeypatch, "--version") == 0 and capsys.readouterr().out.startswith("mmpt 0")


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("runs/text/tokenizer", True),
        ("runs/text", True),
        ("./text", True),
        ("../text", True),
        ("/none/text", True),
        ("here/text", True),
        ("here", False),
        ("here/there", False),
        ("gpt2", False),
        ("Qwen/Qwen3-0.6B", False),
    ],
)
def test_a_folder_that_is_not_there_is_no_name_of_the_hub(name, missing, tmp_path, monkeypatch):
    (tmp_path / "here" / "there").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert is_missing_folder(name) == missing
    if missing:
        with pytest.raises(ConfigError, match=r"no such folder.*tokenizers/text\.yaml"):
            load_text_tokenizer(name)
