"""What `mmpt tokenizers` says is what papers say of the published ones, and follows from the specifications of ours."""

import sys
from pathlib import Path

import pytest

from mmpt.cli import main
from mmpt.errors import ConfigError
from mmpt.training.tokenizer_list import HEAD, tokenizers_table

ROOT = Path(__file__).resolve().parents[2] / "tokenizers"


def rows(*paths: Path) -> dict[str, dict[str, str]]:
    head, *body = tokenizers_table(paths)
    assert head == HEAD
    return {row[0]: dict(zip(HEAD, row, strict=True)) for row in body}


def test_figures_of_released_tokenizers_are_those_that_were_published():
    found = rows()
    # Bits a second or a picture: GLM-4-Voice's paper, table 1; Moshi's, section 3.3.1; X-Codec2's, table 1; of DAC 500 bits a
    # codebook and second; SEED 32 of 13 bits; Janus 24 x 24 of 14; Chameleon 32 x 32 of 13.
    published = {
        "glm4_voice": ("12.5", "175"), "mimi": ("100", "1,100"), "x_codec2": ("50", "800"), "dac": ("600", "6,000"),
        "seed": ("32", "416"), "janus": ("576", "8,064"), "chameleon": ("1,024", "13,312"), "emu3": ("4,096", "61,440"),
    }  # fmt: skip
    assert {name: (row["a second or picture"], row["bits"]) for name, row in found.items()} == published
    assert found["mimi"]["codebooks"] == "8" and found["mimi"]["Hz or pixels"] == "24,000"
    assert all(row["source"].startswith("arXiv:") and "/" in row["weights"] for row in found.values())


def test_specifications_are_listed_with_what_they_train_or_take_over(monkeypatch, capsys):
    ours, taken = ROOT / "speech_whisper.yaml", ROOT / "published" / "dac.yaml"
    found = rows(ours, taken, ROOT / "vocoder.yaml")
    assert found[str(ours)]["bits"] == "175" and found[str(ours)]["codes"] == "16,384"
    assert found[str(taken)]["bits"] == "2,000" and found[str(taken)]["codebooks"] == "4"
    assert str(ROOT / "vocoder.yaml") not in found
    monkeypatch.setattr(sys, "argv", ["mmpt", "tokenizers", str(ours), "--markdown"])
    main()
    printed = capsys.readouterr().out
    assert printed.startswith("| tokenizer | of |") and f"| {ours} | speech | 16,384 |" in printed
    with pytest.raises(ConfigError, match="expected a specification"):
        rows(ROOT / "README.md")
