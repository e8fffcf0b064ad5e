"""What an image tokenizer is measured against, and by what."""

import tracemalloc

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from scipy.linalg import sqrtm

from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Text
from mmpt.document import Image as ImagePart
from mmpt.errors import ConfigError
from mmpt.evaluation.metrics.frechet import Moments, frechet_distance
from mmpt.evaluation.metrics.image_gates import gate_figures
from mmpt.evaluation.metrics.picture_floors import floors, word_vectors
from mmpt.evaluation.metrics.picture_judge import PictureJudge, psnr
from mmpt.evaluation.metrics.retrieval import picture_text_recalls
from mmpt.evaluation.training_pictures import training_pictures
from mmpt.media import encode_png
from mmpt.tokenizers.image.gates import Gates, JudgeConfig
from mmpt.tokenizers.image.perceptual._lpips import load_lpips
from mmpt.tokenizers.image.perceptual.lpips import Lpips
from mmpt.tokenizers.image.pixels import to_pixels


def moments(rows: np.ndarray, pieces: int = 1) -> Moments:
    found = Moments(rows.shape[1])
    for piece in np.array_split(rows, pieces):
        found.add(piece)
    return found


@pytest.mark.parametrize("count", [400, 9])  # fewer rows than values: covariances of less than full rank
def test_the_frechet_distance_is_that_of_its_definition(count):
    draw = np.random.default_rng(count)
    one, other = draw.normal(size=(count, 16)) @ draw.normal(size=(16, 16)) + 300, draw.normal(size=(count, 16)) + 301
    covariances = [np.cov(rows, rowvar=False) for rows in (one, other)]
    root = sqrtm(covariances[0] @ covariances[1])
    means = [rows.mean(axis=0) for rows in (one, other)]
    expected = np.square(means[0] - means[1]).sum() + np.trace(covariances[0] + covariances[1] - 2 * root.real)
    assert frechet_distance(moments(one, 7), moments(other, 3)) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(moments(one), moments(one, 5)) == pytest.approx(0, abs=1e-6 * np.trace(covariances[0]))


def test_the_frechet_distance_of_normals_in_closed_form():
    """Of independent values: the sum of (difference of means)² + (difference of deviations)²."""
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(200_000, 2))
    found = frechet_distance(moments(rows * [1, 2]), moments(rows[::-1] * [3, 2] + [1, 0]))
    assert found == pytest.approx(1 + 4, rel=0.02)


def test_moments_of_one_row_are_refused():
    with pytest.raises(ValueError, match="1 rows have no covariance"):
        frechet_distance(moments(np.ones((1, 3))), moments(np.ones((5, 3))))


def pictures(count: int, side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("side", [16, 128])
def test_the_nearest_picture_is_that_of_the_least_squared_difference(side):
    known, held_out = pictures(150, side), pictures(5, side, 1)
    held_out[2] = np.clip(known[140].astype(int) + 9, 0, 255)
    found = floors(held_out, ((picture, f"text {number}") for number, picture in enumerate(known)))
    factor = side // min(side, 64)
    small = [np.asarray([Image.fromarray(p).reduce(factor) for p in group], dtype=float) for group in (held_out, known)]
    apart = np.square(small[0][:, None] - small[1][None]).sum(axis=(2, 3, 4))
    assert found.texts[2] == "text 140" and found.texts == [f"text {number}" for number in apart.argmin(axis=1)]
    assert np.array_equal(found.nearest, known[apart.argmin(axis=1)]) and found.looked == 150
    assert np.abs(found.mean - known.mean(axis=0)).max() <= 0.5
    nothing = floors(held_out, ())
    assert nothing.looked == 0 and np.abs(nothing.mean - held_out.mean(axis=0)).max() <= 0.5


def test_memory_does_not_grow_with_the_training_pictures():
    held_out = pictures(3, 32, 9999)

    def peak(count: int) -> int:
        tracemalloc.start()
        found = floors(held_out, ((pictures(1, 32, number)[0], f"text {number}") for number in range(count)))
        assert found.looked == count
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak(2000) < 1.1 * peak(200)


def test_words_find_the_caption_that_shares_the_rare_ones():
    names = ["the red cat", "the blue dog", "the green bird"]
    vectors = word_vectors(["a cat of the sea", "", "the bird and the dog"], names)
    scores = vectors @ word_vectors(names, names).T
    assert scores[0].argmax() == 0 and scores[1].max() == 0 and scores[2, 0] < min(scores[2, 1:])
    recalls = picture_text_recalls(word_vectors(names, names), word_vectors(names, names), names, (1,))
    assert recalls["picture to text R@1"] == 1


def test_psnr_is_that_of_its_definition():
    one, other = pictures(3, 8), pictures(3, 8, 1)
    expected = [20 * np.log10(255 / np.sqrt(np.mean((a.astype(float) - b) ** 2))) for a, b in zip(one, other, strict=True)]
    assert psnr(one, other) == pytest.approx(expected) and psnr(one, one).min() > 70


def test_features_of_a_blur_lie_further_than_those_of_a_little_noise():
    """The order in which people put them, whatever their equal distance in pixels."""
    smooth = np.stack([np.asarray(Image.fromarray(p).resize((32, 32), Image.Resampling.BICUBIC)) for p in pictures(20, 8)])
    grey = np.broadcast_to(smooth.mean(axis=(1, 2), keepdims=True), smooth.shape)
    near = np.clip(smooth + np.random.default_rng(0).normal(0, 2, smooth.shape), 0, 255)
    judge = PictureJudge(JudgeConfig(), 32)
    far, close = (judge.distance(smooth, one.astype(np.uint8)).mean() for one in (grey, near))
    assert judge.distance(smooth, smooth).max() == 0 and far > 3 * close > 0
    again = PictureJudge(JudgeConfig(), 32)
    assert np.array_equal(again.vectors(smooth), judge.vectors(smooth)) and judge.vectors(smooth).shape == (20, 128)


def test_the_judge_sees_a_published_tower_at_its_own_side():
    judge = PictureJudge(JudgeConfig(tower={"kind": "timm", "model": "vit_tiny_patch16_224", "pretrained": False}, side=224), 32)
    shown = pictures(2, 32)
    assert judge.vectors(shown).shape == (2, 192) and "vit_tiny_patch16_224" in judge.name and "224 pixels" in judge.name
    with pytest.raises(ConfigError, match="expected a published one"):
        PictureJudge(JudgeConfig(tower={"patch": 8, "width": 8, "depth": 0, "heads": 1}), 32)


def test_the_judge_tells_lpips_where_that_is_asked_for(tmp_path):
    pytest.importorskip("lpips")
    torch.manual_seed(0)
    save_file(torchvision.models.alexnet(weights=None).state_dict(), tmp_path / "alexnet.safetensors")
    config = Lpips(net="alex", weights=tmp_path / "alexnet.safetensors")
    judge = PictureJudge(JudgeConfig(lpips=config, side=64), 64)
    one, other = pictures(2, 64), pictures(2, 64, 1)
    wanted = load_lpips("alex", config.weights)(to_pixels(one), to_pixels(other))
    assert judge.distance(one, other) == pytest.approx(wanted.numpy(), rel=1e-5) and judge.distance(one, one).max() == 0
    assert judge.name.startswith("LPIPS of alex at 64 pixels, sets by random convolutions")
    assert np.array_equal(judge.vectors(one), PictureJudge(JudgeConfig(side=64), 64).vectors(one))


def test_training_pictures_are_taken_evenly_from_all_shards(tmp_path):
    with ShardWriter(tmp_path / "shards", built={}, max_documents=4) as writer:
        for number in range(0, 30, 2):
            both = [encode_png(Image.new("RGB", (8, 8), (number + i, 0, 0))) for i in range(2)]
            parts = [ImagePart(data, "png", 8, 8, alt=f"number {number + i}") for i, data in enumerate(both)]
            writer.write(Document(f"d/{number}", "d", (parts[0], Text("between"), parts[1])))
    every = list(training_pictures([tmp_path / "shards"], 100, 8, "squash"))
    assert [(int(picture[0, 0, 0]), text) for picture, text in every] == [(i, f"number {i}") for i in range(30)]
    some = [int(picture[0, 0, 0]) for picture, _ in training_pictures([tmp_path / "shards"] * 2, 7, 8, "squash")]
    assert some == [round(place) % 30 for place in np.linspace(0, 59, 7)]
    first = [int(picture[0, 0, 0]) for picture, _ in training_pictures([tmp_path / "shards"], 100, 8, "squash", first=5)]
    assert first == [0, 1, 2, 3, 4]


def test_what_is_no_better_than_a_floor_fails_by_the_name_of_the_floor():
    """The emoji tokenizer that passed all gates before: embeddings below raw pixels, drawings 3 dB above the mean picture."""
    figures = {
        "pictures": 246.0, "codes_used": 0.996, "entropy": 0.974, "gap": 2.2, "R@mean by chance": 0.02,
        "embeddings, R@mean": 0.241, "embeddings, picture to text R@1": 0.106, "codes, picture to text R@1": 0.098,
        "raw pixels, picture to text R@1": 0.12, "PSNR": 15.3, "PSNR of the mean picture": 12.0,
        "PSNR of the nearest training picture": 15.0, "feature distance": 0.5, "feature distance of the mean picture": 0.9,
        "feature distance of the nearest training picture": 0.4, "rFID": 3.0,
    }  # fmt: skip
    short = {one.name for one in gate_figures(figures, Gates(prefixes=False), "judge") if not one.ok}
    assert short == {
        "R@1 of embeddings above raw pixels, points",
        "R@1 of codes above raw pixels, points",
        "PSNR above the nearest training picture, dB",
        "distance ÷ that of the nearest training picture, judge",
    }
    assert all(one.ok for one in gate_figures(figures, Gates(prefixes=False, floors=None)))
    assert not all(one.ok for one in gate_figures(figures, Gates(prefixes=False, floors=None, rfid=2.9)))
    unasked = Gates(prefixes=False, floors={"recall": None, "psnr": None, "features": None})
    told = gate_figures(figures, unasked)
    assert all(one.ok for one in told) and "PSNR above the nearest training picture, dB" in {one.name for one in told}
    perfect = {**figures, "raw pixels, picture to text R@1": 1.0, "embeddings, picture to text R@1": 1.0}
    assert "R@1 of embeddings above raw pixels, points" not in {
        f.name for f in gate_figures(perfect, Gates(prefixes=False)) if not f.ok
    }
