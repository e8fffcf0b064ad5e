"""The bench of image tokenizers against floors and others: what the others are, and what is made of all figures."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mmpt.tokenizers.image.config import CaptionConfig
from mmpt.tokenizers.image.pixels import picture_bytes

from .tiny_image import EMA, Plan, config, pictures

BENCHES = Path(__file__).resolve().parents[2] / "tokenizers" / "benches"


@pytest.fixture
def bench(monkeypatch):
    """A module of the benches by its name."""
    monkeypatch.syspath_prepend(str(BENCHES))
    return importlib.import_module


RESIDUAL = {"kind": "residual", "stages": 2, "stage": EMA}


@pytest.mark.slow
@pytest.mark.parametrize("quantizer", [EMA, RESIDUAL])
@pytest.mark.parametrize("name", ["vector-quantize-pytorch", "TiTok-like"])
def test_another_tokenizer_of_as_many_bits_learns_to_draw(bench, name, quantizer):
    from examples_in_memory import image_batches

    from mmpt.tokenizers.image.batches import ImageExample

    rivals, asked = bench("rivals"), config(quantizer)
    torch.manual_seed(0)
    model = rivals.RIVALS[name](asked)
    shown = pictures(12)
    batches = image_batches([ImageExample(picture, "") for picture in shown], asked, Plan())
    pixels = np.stack([picture_bytes(picture, 16) for picture in shown])
    model.eval()
    before = np.square(model.decode(model.encode(pixels)).astype(float) - pixels).mean()
    assert rivals.learn(model, batches, 3.0, 3e-3) > 20
    codes = model.encode(pixels)
    assert codes.shape == (12, asked.figures.codes_per_image) and codes.min() >= 0 and codes.max() < asked.figures.codes
    assert np.square(model.decode(codes).astype(float) - pixels).mean() < 0.5 * before
    # TiTok has one codebook; a residual one has as many codes of each.
    books = 1 if name == "TiTok-like" else asked.quantizer.depth
    assert model.vectors().shape == (16 * books, asked.quantizer.dim)
    assert all(np.all(part // 16 == book) for book, part in enumerate(np.split(codes, books, axis=1)))
    assert np.array_equal(model.encode(pixels[3:5]), codes[3:5])


@pytest.mark.slow
def test_a_head_finds_what_codes_say_and_nothing_in_codes_that_say_nothing(bench):
    """Each of 12 captions has a code of its own in one place of four; or codes are random."""
    head, draw = bench("code_head"), np.random.default_rng(0)
    names = [f"thing{number % 12}" for number in range(600)]
    random = draw.integers(0, 32, (600, 4))
    telling = random.copy()
    telling[:, 2] = np.arange(600) % 12
    book, captions = draw.normal(size=(32, 6)), CaptionConfig(words=2, buckets=512, width=32, depth=1, heads=2, dim=16)
    found = [
        head.recalls_by_head(book, codes[:480], names[:480], codes[480:], names[480:], captions, 8.0, 0)["picture to text R@1"]
        for codes in (telling, random)
    ]
    assert found[0] > 0.9 and found[1] < 0.3


def test_figures_of_seeds_become_means_and_ours_must_beat_each(bench, tmp_path):
    floor = bench("pictures_floor")
    own = {"pictures": 140, "codes_used": 1, "entropy": 0.9, "codes_per_image": 2, "CPU minutes": 39}
    own |= {"R@mean by chance": 0.02, "embeddings, R@mean": 0.5, "embeddings, picture to text R@1": 0.2}
    own |= {"raw pixels, picture to text R@1": 0.1, "PSNR of the mean picture": 10, "PSNR of the nearest training picture": 14}
    own |= {"feature distance": 0.2, "feature distance of the mean picture": 0.5}
    own |= {"feature distance of the nearest training picture": 0.3}
    own |= {f"distance of the first {n}{who}": 1 / n + len(who) for n in (1, 2) for who in ("", " of others")}
    spec = json.loads(json.dumps({"kind": "image", "data": ["x"], "tokenizer": config().model_dump(mode="json")}))
    spec["stages"] = {"joint": {"fit": {"steps": 1, "batch_size": 2, "optimizer": {"learning_rate": 0.1}}}}
    for seed, (recall, psnr) in enumerate([(0.15, 16.0), (0.25, 15.0)]):
        folder = tmp_path / "set" / f"seed-{seed}"
        folder.mkdir(parents=True)
        (folder / "spec.yaml").write_text(json.dumps(spec))
        (folder / "ours.json").write_text(json.dumps({**own, "R@1 from codes": recall, "PSNR": psnr}))
        for name in floor.RIVALS:
            theirs = {"R@1 from codes": 0.2, "PSNR": 15.4, "feature distance": 0.4, "codes_used": 1, "entropy": 1}
            (folder / f"{name}.json").write_text(json.dumps(theirs))
    figures = {one.name: one for one in floor.of_set(tmp_path / "set")}
    assert figures["R@1 from codes: set, ours"].value == pytest.approx(0.2)
    points = figures["R@1 from codes above TiTok-like, points: set"]
    assert points.value == pytest.approx(0) and not points.ok  # no better is not better
    assert figures["R@1 from codes above TiTok-like, points, the least of the seeds: set"].value == pytest.approx(-5)
    assert figures["PSNR above vector-quantize-pytorch, dB: set"].ok and figures["PSNR above the mean picture, dB: set"].ok
    assert figures["R@1 of embeddings above raw pixels, points: set"].value == pytest.approx(10)
    (tmp_path / "set" / "seed-1" / "ours.json").unlink()
    assert {one.name: one for one in floor.of_set(tmp_path / "set")}["seeds: set, ours"].value == 1
