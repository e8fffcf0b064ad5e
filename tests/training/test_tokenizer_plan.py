"""What the training of an image tokenizer would take, told before it."""

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from mmpt.config import parse_config
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document
from mmpt.document import Image as ImagePart
from mmpt.errors import ConfigError
from mmpt.media import encode_png
from mmpt.tokenizers.image.tokenizer import ImageTokenizer
from mmpt.training.specs import TokenizerSpec
from mmpt.training.tokenizer_plan import counted, foretell_pictures, saved_bytes

ROOT = Path(__file__).resolve().parents[2]


def spec(data: Path, **changes):
    content = yaml.safe_load((ROOT / "tokenizers" / "image_seed_garments.yaml").read_text()) | {"data": [str(data)], **changes}
    return parse_config(content, TokenizerSpec, "test").root


def told(line: str, name: str) -> float:
    return float(re.search(rf"{name} ([0-9.]+)", line)[1])


def test_the_bytes_kept_for_the_backward_pass_are_counted_once():
    layer, x = torch.nn.Linear(10, 20), torch.randn(7, 10)
    # The input for the weight's gradient, and the output for that of the square; the weight itself is no activation.
    assert saved_bytes(lambda: layer(x).square().sum(), layer) == 4 * (7 * 10 + 7 * 20)


def test_the_plan_counts_what_learns_and_what_a_batch_takes(tmp_path):
    asked = spec(tmp_path)
    lines = {line.split(":")[0]: line for line in foretell_pictures(asked, 8, 5_000_000)}
    assert list(lines)[1:5] == ["align", "quantize", "draw", "harden"]
    model = ImageTokenizer(asked.tokenizer)
    decoder = 4 * sum(weight.numel() for weight in model.decoder.parameters()) / 2**30
    assert told(lines["draw"], "learning") == pytest.approx(decoder, abs=6e-4)
    assert told(lines["draw"], "optimizer") == pytest.approx(2 * decoder, abs=6e-4)
    share = asked.stages.draw.fit.batch_size // 8
    assert f"({share} a rank)" in lines["draw"] and "0.01 epochs" in lines["draw"]
    places = 5_000_000 * (26 + 16) / 2**30
    assert told(lines["main memory of each rank beside its weights"], "weights:") == pytest.approx(places, abs=1e-3)
    more = {line.split(":")[0]: line for line in foretell_pictures(asked, 1, 5_000_000)}
    assert told(more["draw"], "activations") > 3 * told(lines["draw"], "activations")


def test_zero_shares_out_the_optimizer(tmp_path):
    def plan(stage: int) -> str:
        fit = {"steps": 9, "batch_size": 8, "optimizer": {"learning_rate": 1e-3}}
        fit["deepspeed"] = {"zero_optimization": {"stage": stage}}
        return foretell_pictures(spec(tmp_path, stages={"align": {"fit": fit}}), 8, 100)[1]

    whole, shared = plan(0), plan(2)
    for part in ("gradients", "optimizer"):
        assert told(shared, part) == pytest.approx(told(whole, part) / 8, abs=6e-4)
    assert told(shared, "learning") == told(whole, "learning")


def test_a_published_tower_is_counted_and_not_held(tmp_path):
    tower = {"kind": "timm", "model": "vit_tiny_patch16_224", "pretrained": False}
    content = spec(tmp_path).tokenizer.model_dump(mode="json") | {"side": 224, "tower": tower}
    content["decoder"] |= {"patch": 16, "flow": None}
    found = foretell_pictures(spec(tmp_path, tokenizer=content), 1, 100)
    weights = 5.5e6 * 4 / 2**30
    assert told(found[0], "rest") == pytest.approx(weights, rel=0.05) and told(found[1], "frozen") > weights * 0.95


def test_a_batch_must_go_into_the_ranks_and_there_must_be_pictures(tmp_path):
    with pytest.raises(ConfigError, match="expected a multiple of 7 ranks"):
        foretell_pictures(spec(tmp_path), 7, 100)
    with ShardWriter(tmp_path / "shards", built={}) as writer:
        for number in range(3):
            data = encode_png(Image.fromarray(np.full((8, 8, 3), number, np.uint8)))
            writer.write(Document(f"d/{number}", "d", (ImagePart(data, "png", 8, 8),) * 2))
    assert counted(spec(tmp_path / "shards")) == 6 and counted(spec(tmp_path / "shards", examples=4)) == 4


@pytest.mark.slow
def test_the_command_says_it_and_leaves_nothing(tmp_path):
    command = [os.environ["WARM_PYTHON"], str(ROOT / "tokenizers" / "train.py"), str(ROOT / "tokenizers" / "image_garments.yaml")]
    done = subprocess.run([*command, str(tmp_path / "out"), "--dry-run", "--pictures", "1000"], capture_output=True, text=True)
    assert (
        done.returncode == 0 and "1000 pictures of 32 × 32 pixels on 1 ranks" in done.stdout and not (tmp_path / "out").exists()
    )
    other = [*command[:2], str(ROOT / "tokenizers" / "speech_digits.yaml"), str(tmp_path / "out"), "--dry-run"]
    done = subprocess.run(other, capture_output=True, text=True)
    assert done.returncode == 2 and "expected the specification of an image tokenizer" in done.stderr
