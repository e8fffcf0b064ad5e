"""The scripts of tokenizers/ for pictures as a person runs them, at toy size: nothing is learned, all is written and read."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from safetensors.numpy import load_file

from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Image
from mmpt.media import encode_png
from mmpt.storage import write_json

pytestmark = pytest.mark.ranks

ROOT = Path(__file__).resolve().parents[2]
FIT = {"steps": 4, "batch_size": 4, "optimizer": {"learning_rate": 0.001}, "run": {"log_every": 2, "save_every": 2}}
TOKENIZER = {
    "side": 16,
    "tower": {"patch": 4, "width": 16, "depth": 0, "heads": 2},
    "qformer": {"queries": 4, "width": 16, "depth": 1, "heads": 2},
    "quantizer": {"kind": "ema", "codes": 16, "dim": 4, "normalize": True},
    "branches": {"depth": 1, "reverse_depth": 1},
    "decoder": {"patch": 4, "width": 16, "depth": 0, "heads": 2, "flow": {"dim": 8, "blocks": 1, "steps": 2}},
    "captions": {"words": 3, "buckets": 32, "width": 16, "depth": 1, "heads": 2, "dim": 8},
}


def run(script: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [os.environ["WARM_PYTHON"], str(ROOT / "tokenizers" / f"{script}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with shards of noise, and a tokenizer trained on them in SEED's stages."""
    place = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    with ShardWriter(place / "shards", built={}) as writer:
        for number in range(12):
            picture = Pillow.fromarray(draw.integers(0, 255, (16, 16, 3), dtype=np.uint8))
            writer.write(
                Document(f"noise/{number}", "noise", (Image(encode_png(picture), "png", 16, 16, alt=f"number {number}"),))
            )
    stages = {name: {"fit": FIT} for name in ("align", "quantize", "draw")}
    spec = {"kind": "image", "data": [str(place / "shards")], "tokenizer": TOKENIZER, "stages": stages}
    write_json(place / "seed.yaml", spec)
    done = run("train", place / "seed.yaml", place / "seed")
    assert done.returncode == 0, done.stderr
    return place


def harden(place: Path, name: str, lines: list[dict], **changes) -> subprocess.CompletedProcess:
    (place / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    stage = {"generated_codes": str(place / f"{name}.jsonl"), "generated": 1.0, "fit": FIT}
    start = str(place / "seed" / "tokenizer")
    spec = {"kind": "image", "data": [str(place / "shards")], "start": start, "stages": {"harden": stage}, **changes}
    write_json(place / f"{name}.yaml", spec)
    return run("train", place / f"{name}.yaml", place / name)


def test_each_stage_has_its_metrics_and_the_page_says_what_is_short(place):
    for stage in ("align", "quantize", "draw"):
        assert [json.loads(line)["step"] for line in (place / "seed" / stage / "metrics.jsonl").open()] == [2, 4]
    done = run("evaluate", place / "seed", place / "shards", "--used", "1.0")
    assert done.returncode == 1 and "codes used" in done.stderr and "short" in done.stderr
    figures = json.loads(done.stdout)
    assert figures["pictures"] == 12 and {"gap", "codes, R@mean", "distance of the first 4"} <= figures.keys()
    page = (place / "seed" / "evaluation.html").read_text()
    assert "data:image/png" in page and "http://" not in page


@pytest.mark.parametrize(
    ("gates", "code"),
    [({"used": 0, "entropy": 0, "gap": 100, "recall": 0, "prefixes": False, "floors": None}, 0), ({"entropy": 1}, 1)],
)
def test_a_training_ends_by_its_gates(place, gates, code):
    changes = {"held_out": str(place / "shards"), "gates": gates}
    done = harden(place, f"gated-{code}", [{"id": "noise/0/0", "codes": [0, 1, 2, 3]}], **changes)
    assert done.returncode == code and "entropy" in done.stdout and ("short" in done.stdout) == bool(code)
    assert (place / f"gated-{code}" / "tokenizer").is_dir() and (place / f"gated-{code}" / "evaluation.html").is_file()


def test_a_tokenizer_no_better_than_its_floors_is_said_to_be(place):
    """Held out are the very pictures it learned from: the nearest of those is the picture itself, which nothing draws as well."""
    done = run("evaluate", place / "seed", place / "shards", "--trained-on", place / "shards")
    short = [line for line in done.stderr.splitlines() if line.endswith("short")]
    assert done.returncode == 1 and any("PSNR above the nearest training picture, dB" in line for line in short)
    figures = json.loads(done.stdout)
    assert figures["PSNR of the nearest training picture"] > 70 and figures["raw pixels, picture to text R@1"] == 1
    assert figures["training pictures looked through"] == 12 and "random convolutions" in figures["judge"]
    (place / "gates.yaml").write_text("{floors: null, used: 0, entropy: 0, gap: 100, recall: 0, prefixes: false, rfid: 0}")
    done = run("evaluate", place / "seed", place / "shards", "--trained-on", place / "shards", "--gates", place / "gates.yaml")
    assert done.returncode == 1 and ["rFID" in line for line in done.stderr.splitlines() if line.endswith("short")] == [True]


def test_the_decoder_alone_learns_from_the_codes_of_a_language_model(place):
    """Codes by `encode.py` under its ids, some changed, go back into training; no code of any picture changes by it."""
    assert run("encode", place / "seed" / "tokenizer", place / "shards", place / "codes").returncode == 0
    lines = [json.loads(line) for line in (place / "codes" / "codes.jsonl").open()]
    generated = [{**line, "codes": [(code + 1) % 16 for code in line["codes"]]} for line in lines[:5]]
    results = {name: harden(place, name, rows) for name, rows in (("own", lines), ("other", generated))}
    assert all(done.returncode == 0 for done in results.values()), results
    before, own, other = (load_file(place / name / "tokenizer" / "model.safetensors") for name in ("seed", "own", "other"))
    moved = {name.split(".")[0] for name, value in before.items() if not np.array_equal(value, other[name])}
    assert moved == {"decoder"}
    assert any(not np.array_equal(value, other[name]) for name, value in own.items())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"id": "noise/0", "codes": [0, 1, 2, 3]}], "codes of none of the pictures, whose ids are such as 'noise/0/0'"),
        ([{"id": "noise/0/0", "codes": [0, 1, 2]}], "of noise/0/0: expected 4 from 0 to 15"),
        ([{"id": "noise/0/0", "codes": [0, 1, 2, 16]}], "of noise/0/0: expected 4 from 0 to 15"),
    ],
)
def test_codes_that_do_not_fit_are_refused(place, lines, message):
    done = harden(place, "refused", lines)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_a_new_tokenizer_or_a_start_but_not_both(place):
    done = harden(place, "both", [], tokenizer=TOKENIZER)
    assert done.returncode == 2 and "either tokenizer or start" in done.stderr
