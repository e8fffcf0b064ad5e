"""Codes that are searched for by what the decoder makes of them."""

import itertools
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.config import parse_config
from mmpt.errors import ConfigError
from mmpt.evaluation.metrics.image_tokenizer import evaluate_image_tokenizer
from mmpt.tokenizers.image.augment_config import AugmentConfig
from mmpt.tokenizers.image.refine import Refiner, _shaken, sum_of
from mmpt.tokenizers.image.stages import JointConfig, JointStage
from mmpt.tokenizers.image.tokenizer import ImageTokenizer
from mmpt.training import tokenizers as training
from mmpt.training.distributed import World
from mmpt.training.specs import ImageSpec

from .tiny_image import config, pictures
from .tiny_stages import batch as batch_of
from .tiny_stages import tokenizer

RESIDUAL = {"kind": "residual", "stages": 3, "stage": {"kind": "ema", "codes": 8, "dim": 6}}
QUERIES, DIM, BOOKS, SIZE = 2, 3, 3, 4


def started(measured: bool = True, **changes) -> ImageTokenizer:
    model = tokenizer(quantizer=RESIDUAL, **{"refine": 6, **changes})
    stage = JointStage(model, JointConfig(beginnings=0.5)).train()
    for seed in range(3):
        stage.loss(batch_of(seed=seed), 0.5)
    model.eval()
    if measured:
        model.measure_refining([batch_of(seed=seed).pixels for seed in range(4)])
    return model


def linear(seed: int):
    """A decoder that is a matrix, its refiner with the curvature that a matrix has, codebooks, codes, and what is to be drawn."""
    torch.manual_seed(seed)
    weight = torch.randn(QUERIES * DIM, 12)
    entries, codes = torch.randn(BOOKS, SIZE, DIM), torch.randint(0, SIZE, (5, QUERIES, BOOKS))
    refiner = Refiner(QUERIES, DIM, 35)
    refiner.curvature.copy_(weight @ weight.T)
    refiner.measured.fill_(True)

    def draw(vectors: torch.Tensor) -> torch.Tensor:
        return (vectors.flatten(1) @ weight).view(-1, 3, 2, 2)

    return draw, refiner, entries, codes, torch.randn(5, 3, 2, 2)


def errors(draw, codes: torch.Tensor, entries: torch.Tensor, canvas: torch.Tensor) -> torch.Tensor:
    return (draw(sum_of(codes, entries)) - canvas).square().flatten(1).sum(dim=1)


def least(draw, codes: torch.Tensor, entries: torch.Tensor, canvas: torch.Tensor) -> torch.Tensor:
    """The smallest error of each picture by any codes with its first book's: all are tried."""
    found = torch.full((len(codes),), float("inf"))
    for others in itertools.product(range(SIZE), repeat=QUERIES * (BOOKS - 1)):
        tried = codes.clone()
        tried[:, :, 1:] = torch.tensor(others).view(QUERIES, BOOKS - 1)
        found = torch.minimum(found, errors(draw, tried, entries, canvas))
    return found


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_what_is_found_is_never_further_and_keeps_the_first_book(seed: int):
    draw, refiner, entries, codes, canvas = linear(seed)
    refiner.curvature.mul_(0.1)  # one that promises too much: what it proposes is worse at first
    found = refiner(codes, entries, draw, canvas)
    assert (errors(draw, found, entries, canvas) <= errors(draw, codes, entries, canvas)).all()
    assert torch.equal(found[:, :, 0], codes[:, :, 0]) and found.min() >= 0 and found.max() < SIZE


def test_of_a_matrix_it_goes_most_of_the_way_to_the_best_of_all_codes():
    gone, left = 0.0, 0.0
    for seed in range(20):
        draw, refiner, entries, codes, canvas = linear(seed)
        best = least(draw, codes, entries, canvas)
        left += float((errors(draw, refiner(codes, entries, draw, canvas), entries, canvas) - best).sum())
        gone += float((errors(draw, codes, entries, canvas) - best).sum())
    assert left < 0.2 * gone


def test_a_sweep_sets_one_code_after_the_other_to_the_best_of_the_quadratic():
    _, refiner, entries, _, _ = linear(3)
    codes, slope = torch.randint(0, SIZE, (40, QUERIES, BOOKS)), 10 * torch.randn(40, QUERIES * DIM)

    def value(row: int, tried: torch.Tensor) -> float:
        moved = (sum_of(tried[None], entries) - sum_of(codes[row : row + 1], entries)).flatten()
        return float(slope[row] @ moved + moved @ refiner.curvature @ moved / 2)

    expected = codes.clone()
    for row in range(len(codes)):
        for book, query in itertools.product(range(1, BOOKS), range(QUERIES)):
            each = [expected[row].clone() for _ in range(SIZE)]
            for code, one in enumerate(each):
                one[query, book] = code
            expected[row] = min(each, key=lambda one, row=row: value(row, one))
    assert torch.equal(refiner._sweep(codes, entries, slope), expected) and not torch.equal(expected, codes)


def test_the_same_places_of_every_image_are_shaken_and_none_of_the_first_book():
    codes = torch.zeros(6, 32, 4, dtype=torch.int64)
    found = _shaken(codes, 1000, torch.Generator().manual_seed(1))
    assert torch.equal(found, found[:1].expand_as(found)) and not found[:, :, 0].any()
    assert 0.02 < (found[0, :, 1:] != 0).float().mean() < 0.12  # a sixteenth


def test_the_curvature_is_the_mean_of_the_squared_jacobians():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 12))

    def draw(vectors: torch.Tensor) -> torch.Tensor:
        return layers(vectors.flatten(1)).view(-1, 3, 2, 2)

    vectors = torch.randn(5, QUERIES, DIM)
    jacobians = torch.stack([torch.autograd.functional.jacobian(layers, one.flatten()) for one in vectors])
    expected = torch.einsum("noi,noj->ij", jacobians, jacobians) / len(vectors)
    refiner = Refiner(QUERIES, DIM, 1)
    refiner.measure(draw, [vectors] * 4000)
    assert refiner.measured and torch.allclose(refiner.curvature, expected, atol=0.03 * float(expected.diagonal().max()))


def test_pictures_are_drawn_more_exactly_by_the_codes_found():
    model, plain = started(), started(refine=0)
    shown = pictures(8)
    codes, nearest = model.encode(shown), plain.encode(shown)
    assert np.array_equal(codes[:, :5], nearest[:, :5]) and (codes != nearest).any()
    pixels = torch.stack([torch.from_numpy(np.asarray(one.convert("RGB").resize((16, 16), 3)).copy()) for one in shown])
    canvas = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        drawn = [plain.decoder.coarse(plain.vectors(torch.from_numpy(one))) for one in (codes, nearest)]
    found, before = ((one - canvas).square().mean((1, 2, 3)) for one in drawn)
    assert (found <= before + 1e-6).all() and (found < before - 1e-4).sum() > 4


def test_a_picture_has_the_same_codes_alone_and_among_others_and_of_one_that_was_saved(tmp_path: Path):
    model = started(refine=32)
    shown = pictures(5)
    codes = model.encode(shown)
    assert np.array_equal(np.concatenate([model.encode([one]) for one in shown]), codes)
    model.save(tmp_path / "tokenizer")
    assert np.array_equal(ImageTokenizer.load(tmp_path / "tokenizer").encode(shown), codes)


def test_encoding_leaves_weights_and_their_gradients_alone():
    model = started().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.encode(pictures(3))
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(one.grad is None for one in model.parameters())


def test_before_it_is_measured_codes_are_those_nearest_the_states():
    assert np.array_equal(started(measured=False).encode(pictures(6)), started(refine=0).encode(pictures(6)))


def test_a_training_measures_by_varied_pictures_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    examples = SimpleNamespace(sizes=np.array([3]))
    monkeypatch.setattr(training, "pictures", lambda *rest: examples)
    monkeypatch.setattr(training, "picture_batches", lambda *rest: lambda step, rank, ranks: batch_of(seed=step))
    monkeypatch.setattr(training, "ahead", nullcontext)
    monkeypatch.setattr(training, "REFINED_BY", 8)
    monkeypatch.setattr(training, "fit", lambda stage, *rest: [stage.loss(batch_of(seed=step), 0.5) for step in range(3)] and 0)
    content = {
        "kind": "image",
        "data": ["x"],
        "tokenizer": config(RESIDUAL, refine=3).model_dump(mode="json"),
        "stages": {"joint": {"fit": FIT}},
    }
    training.train_tokenizer(parse_config(content, ImageSpec, "test"), tmp_path, World(0, 1, torch.device("cpu")))
    found = ImageTokenizer.load(tmp_path / "tokenizer").refiner
    assert found is not None and found.measured and found.curvature.trace() > 0


def test_it_needs_several_codebooks_and_few_values():
    with pytest.raises(ConfigError, match="refine needs a quantizer of several codebooks"):
        config(refine=1)
    wide = {"kind": "residual", "stages": 2, "stage": {"kind": "ema", "codes": 8, "dim": 2000}}
    with pytest.raises(ConfigError, match="refine needs qformer.queries × quantizer.dim of 8192 at most"):
        config(wide, refine=1)


FIT = {"steps": 2, "batch_size": 4, "optimizer": {"kind": "adamw", "learning_rate": 0.001}, "schedule": {"warmup_steps": 0}}


def test_a_stage_of_drawing_varies_its_pictures_in_its_own_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    examples = SimpleNamespace(sizes=np.array([3]))
    monkeypatch.setattr(training, "pictures", lambda data, config, *rest: seen.append(("kept", config.augment)) or examples)
    monkeypatch.setattr(training, "picture_batches", lambda found, words, config, fit: seen.append(("made", config.augment)))
    monkeypatch.setattr(training, "ahead", nullcontext)
    monkeypatch.setattr(training, "fit", lambda *rest: 0)
    own = {"flip": True, "crop": {"least": 0.5}}
    content = {
        "kind": "image",
        "data": ["x"],
        "tokenizer": config(augment={"shift": 1}).model_dump(mode="json"),
        "stages": {"joint": {"fit": FIT}, "draw": {"augment": own, "fit": FIT}, "harden": {"fit": FIT}},
    }
    training.train_tokenizer(parse_config(content, ImageSpec, "test"), tmp_path, World(0, 1, torch.device("cpu")))
    common, varied = AugmentConfig(shift=1), parse_config(own, AugmentConfig, "test")
    assert seen == [("kept", common), ("made", common), ("kept", varied), ("made", varied), ("made", common)]
    assert ImageTokenizer.load(tmp_path / "tokenizer").config.augment == common


def test_bits_of_an_image_are_those_of_each_codebook():
    model = started(refine=0)
    found = evaluate_image_tokenizer(model, pictures(3), ["a", "b", "c"]).figures
    assert found["bits_per_image"] == 5 * 3 * 3  # queries, codebooks of eight
