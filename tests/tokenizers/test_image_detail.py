"""A second set of states for the look alone: few codes mean, many codes look."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmpt.config import parse_config
from mmpt.errors import ConfigError, DataError
from mmpt.tokenizers.image.augment_config import AugmentConfig
from mmpt.tokenizers.image.stages import DrawConfig, DrawStage, JointConfig, JointStage
from mmpt.tokenizers.image.tokenizer import ImageTokenizer
from mmpt.training import tokenizers as training
from mmpt.training.distributed import World
from mmpt.training.specs import ImageSpec

from .tiny_image import config, loss_of, pictures
from .tiny_stages import batch as batch_of
from .tiny_stages import tokenizer

RESIDUAL = {"kind": "residual", "stages": 3, "stage": {"kind": "ema", "codes": 8, "dim": 6}}


def batch(seed: int = 0):
    return batch_of(seed=seed)._replace(generated=torch.full((8, 15), -1))


def started(**changes) -> ImageTokenizer:
    model = tokenizer(quantizer=RESIDUAL, **changes)
    stage = JointStage(model, JointConfig(beginnings=0.5)).train()
    for seed in range(3):
        stage.loss(batch(seed=seed), 0.5)
    return model.eval()


def learned(model: ImageTokenizer, steps: int = 4, **settings) -> DrawStage:
    stage = DrawStage(model, DrawConfig(detail=True, empty=0, beginnings=0, **settings)).train()
    optimizer = torch.optim.AdamW([one for one in stage.parameters() if one.requires_grad], 0.01)
    for seed in range(steps):
        optimizer.zero_grad()
        loss_of(stage.loss(batch(seed=seed), 0.5)).backward()
        optimizer.step()
    model.eval()
    return stage


def test_before_it_has_begun_a_tokenizer_with_detail_is_one_without():
    plain, split = started(), started(detail=True)
    common = plain.state_dict()
    assert set(common) < set(split.state_dict())
    assert all(torch.equal(value, split.state_dict()[name]) for name, value in common.items())
    assert np.array_equal(plain.encode(pictures(6)), split.encode(pictures(6)))


def test_what_begins_from_a_copy_has_the_same_codes():
    model = started(detail=True)
    codes = model.encode(pictures(6))
    DrawStage(model, DrawConfig(detail=True))
    model.eval()
    assert model.detail is not None and model.detail.begun
    assert np.array_equal(model.encode(pictures(6)), codes)


def test_learning_to_look_changes_the_codes_after_the_first_book_alone():
    model = started(detail=True)
    shown = pictures(8)
    codes, embedded, meant = model.encode(shown), model.embed(shown), model.meaning(torch.from_numpy(model.encode(shown)))
    first, later = model.quantizer.stages[0].codebook.clone(), model.quantizer.stages[1].codebook.clone()
    learned(model)
    after = model.encode(shown)
    assert np.array_equal(after[:, :5], codes[:, :5]) and (after[:, 5:] != codes[:, 5:]).any()
    assert np.array_equal(model.embed(shown), embedded) and torch.equal(model.meaning(torch.from_numpy(after)), meant)
    assert torch.equal(model.quantizer.stages[0].codebook, first) and not torch.equal(model.quantizer.stages[1].codebook, later)


def test_later_books_code_the_rest_of_the_other_states():
    model = started(detail=True)
    learned(model)
    pixels = batch().pixels
    with torch.no_grad():
        states, looks = model.states(pixels)[1], model.looks(pixels)
        codes = model.quantize(states, looks).codes
        books = [stage.codebook for stage in model.quantizer.stages]
        rest = looks
        for number, book in enumerate(books):
            what = states if number == 0 else rest
            nearest = (what[..., None, :] - book).square().sum(dim=-1).argmin(dim=-1)
            assert torch.equal(nearest, codes[..., number] - 8 * number)
            rest = rest - book[nearest]


def test_pixels_reach_the_other_states_and_not_the_first():
    model = started(detail=True)
    stage = DrawStage(model, DrawConfig(detail=True, empty=0, beginnings=0)).train()
    model.requires_grad_(True)  # whatever learns: it is the way that is cut
    loss_of(stage.loss(batch(), 0.5)).backward()
    assert all(one.grad is None for part in (model.tower, model.qformer, model.down) for one in part.parameters())
    assert model.detail is not None and all(one.grad is not None for one in model.detail.qformer.parameters())


def test_where_the_first_book_alone_is_given_nothing_is_learned_of_the_other_states():
    model = started(detail=True)
    stage = DrawStage(model, DrawConfig(detail=True, empty=1.0, beginnings=0, pixels=1)).train()
    terms = stage.loss(batch(), 0.5)
    terms.pop("quantizer")
    loss_of(terms).backward()
    assert model.detail is not None
    assert all(one.grad is None or not one.grad.any() for one in model.detail.parameters())


def test_the_first_codes_alone_are_drawn_whatever_the_others_are():
    model = started(detail=True)
    learned(model)
    codes = model.encode(pictures(3))
    other = np.concatenate([codes[:, :5], np.roll(codes[:, 5:], 1, axis=0)], axis=1)
    few = [np.asarray(image) for image in model.decode(codes, first=5)]
    assert np.array_equal(few, [np.asarray(image) for image in model.decode(other, first=5)])
    assert not np.array_equal(few, [np.asarray(image) for image in model.decode(codes)])


def test_a_saved_one_gives_the_same_codes_and_learning_on_does_not_begin_anew(tmp_path: Path):
    model = started(detail=True)
    learned(model)
    model.save(tmp_path / "tokenizer")
    again = ImageTokenizer.load(tmp_path / "tokenizer")
    codes = model.encode(pictures(5))
    assert np.array_equal(again.encode(pictures(5)), codes)
    DrawStage(again, DrawConfig(detail=True))
    assert np.array_equal(again.eval().encode(pictures(5)), codes)


def test_it_needs_several_codebooks_and_the_stage_needs_it():
    with pytest.raises(ConfigError, match="detail needs a quantizer of several codebooks"):
        config(detail=True)
    with pytest.raises(DataError, match="configured without `detail`"):
        DrawStage(started(), DrawConfig(detail=True))
    fit = {"steps": 1, "batch_size": 1, "optimizer": {"kind": "adamw", "learning_rate": 0.1}, "schedule": {"warmup_steps": 0}}
    content = {
        "kind": "image",
        "data": ["x"],
        "tokenizer": config().model_dump(mode="json"),
        "stages": {"draw": {"detail": True, "fit": fit}},
    }
    with pytest.raises(ConfigError, match="stages.draw.detail trains tokenizer.detail"):
        parse_config(content, ImageSpec, "test")


def test_a_stage_of_drawing_varies_its_pictures_in_its_own_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    examples = SimpleNamespace(sizes=np.array([3]))
    monkeypatch.setattr(training, "pictures", lambda data, config, *rest: seen.append(("kept", config.augment)) or examples)
    monkeypatch.setattr(training, "picture_batches", lambda found, words, config, fit: seen.append(("made", config.augment)))
    monkeypatch.setattr(training, "ahead", nullcontext)
    monkeypatch.setattr(training, "fit", lambda *rest: 0)
    fit = {"steps": 1, "batch_size": 1, "optimizer": {"kind": "adamw", "learning_rate": 0.1}, "schedule": {"warmup_steps": 0}}
    own = {"flip": True, "crop": {"least": 0.5}}
    content = {
        "kind": "image",
        "data": ["x"],
        "tokenizer": config(augment={"shift": 1}).model_dump(mode="json"),
        "stages": {"joint": {"fit": fit}, "draw": {"augment": own, "fit": fit}, "harden": {"fit": fit}},
    }
    training.train_tokenizer(parse_config(content, ImageSpec, "test"), tmp_path, World(0, 1, torch.device("cpu")))
    common, varied = AugmentConfig(shift=1), parse_config(own, AugmentConfig, "test")
    assert seen == [("kept", common), ("made", common), ("kept", varied), ("made", varied), ("made", common)]
    assert ImageTokenizer.load(tmp_path / "tokenizer").config.augment == common
