"""SEED's stages: what learns and what rests, what the decoder knows of a beginning, the flow against a field that is known."""

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.nn import functional as F

from mmpt.errors import ConfigError, DataError
from mmpt.tokenizers.image.batches import ImageBatch
from mmpt.tokenizers.image.config import PixelFlowConfig
from mmpt.tokenizers.image.flow import PixelFlow
from mmpt.tokenizers.image.perturbing import perturbed
from mmpt.tokenizers.image.stage_config import PerturbConfig
from mmpt.tokenizers.image.stages import (
    AlignConfig,
    AlignStage,
    DrawConfig,
    DrawStage,
    JointConfig,
    JointStage,
    QuantizeConfig,
    QuantizeStage,
    _swapped,
)
from mmpt.tokenizers.image.tokenizer import ImageTokenizer
from mmpt.tokenizers.terms import Term

from .tiny_stages import batch, tokenizer

STAGES = {
    "align": (AlignStage, AlignConfig()),
    "align and describe": (AlignStage, AlignConfig(describe=0.1)),
    "align and draw": (AlignStage, AlignConfig(pixels=10, beginnings=1, swap=0.2)),
    "quantize": (QuantizeStage, QuantizeConfig()),
    "draw": (DrawStage, DrawConfig()),
    "harden": (DrawStage, DrawConfig(perturb=PerturbConfig(neighbours=3))),
    "joint": (JointStage, JointConfig()),
}
_ALIGNED = {"tower", "qformer", "text", "summary", "scale"}
LEARNS = {
    "align": _ALIGNED,
    "align and describe": _ALIGNED | {"down", "describer"},
    "align and draw": _ALIGNED | {"down", "decoder"},
    "quantize": {"down", "restoring", "embedding"},
    "draw": {"decoder"},
    "harden": {"decoder"},
    "joint": {"tower", "qformer", "down", "text", "describer", "summary", "scale", "decoder"},
}


def loss_of(terms: dict[str, Term]) -> torch.Tensor:
    return sum(term.weight * term.total / term.count.clamp_min(1) for term in terms.values() if term.weight)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_teaches_its_parts_and_no_others(name):
    model = tokenizer()
    QuantizeStage(model, QuantizeConfig()).loss(batch(), 0.5)  # a codebook to draw from
    kind, settings_ = STAGES[name]
    stage = kind(model, settings_).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in stage.parameters() if p.requires_grad], 0.1)
    torch.manual_seed(1)
    for seed in range(3):
        loss = loss_of(stage.loss(batch(seed=seed), 0.5))
        assert loss.isfinite()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = model.state_dict()
    moved = {key.split(".")[0] for key, value in before.items() if not torch.equal(value, after[key])}
    assert moved - {"quantizer"} == LEARNS[name]
    assert ("quantizer" in moved) == (name in ("quantize", "joint"))


def test_the_terms_of_stage_two_are_their_definitions():
    model = tokenizer()
    stage = QuantizeStage(model, QuantizeConfig())
    shown = batch()
    stage.loss(shown, 0.5)
    model.eval()
    with torch.no_grad():
        found = stage.loss(shown, 0.5)
        hidden, states = model.states(shown.pixels)
        vectors = model.quantizer(states).states
        cosine = F.cosine_similarity(model.restoring(vectors), hidden, dim=-1)
        aim = F.normalize(model.summary(hidden[:, -1]), dim=-1)
        apart = (model.embedding(vectors) - aim).square()  # its mean, as in SEED's code
    assert float(found["restore"].total / found["restore"].count) == pytest.approx(float((1 - cosine).mean()), rel=1e-5)
    assert float(found["embed"].total / found["embed"].count) == pytest.approx(float(apart.mean()), rel=1e-5)
    assert (found["restore"].weight, found["embed"].weight, found["quantizer"].weight) == (2.0, 0.5, 5.0)


@pytest.mark.parametrize("beginnings", [0.0, 1.0])
def test_stage_one_draws_from_all_states_or_from_the_first(beginnings):
    model = tokenizer()
    stage = AlignStage(model, AlignConfig(pixels=1.0, beginnings=beginnings))
    shown = batch(count=64)
    seen = []
    model.decoder.coarse.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    torch.manual_seed(0)
    stage.loss(shown, 0.5)
    (vectors,) = seen
    nothing = (vectors == model.decoder.nothing).all(dim=-1)  # [64, 5]
    assert not nothing[:, 0].any() and (nothing[:, 1:] >= nothing[:, :-1]).all()  # a beginning, never empty
    whole = float((~nothing[:, -1]).float().mean())
    assert whole == 1.0 if beginnings == 0 else 0.05 < whole < 0.4


def test_swapped_states_are_those_of_the_picture_before_and_teach_it_nothing():
    vectors = torch.arange(64.0 * 5).reshape(64, 5, 1).requires_grad_()
    torch.manual_seed(0)
    found = _swapped(vectors, 0.25)
    wrong = found != vectors
    assert torch.equal(found[wrong], vectors.roll(1, dims=0)[wrong]) and 0.15 < float(wrong.float().mean()) < 0.35
    found.sum().backward()
    assert torch.equal(vectors.grad == 0, wrong)
    assert _swapped(vectors, 0.0) is vectors


def test_the_decoder_learns_from_generated_codes_where_there_are_some():
    model = tokenizer(decoder={"patch": 4, "width": 16, "depth": 0, "heads": 2})
    model.quantizer.codebook.normal_()
    stage = DrawStage(model, DrawConfig(beginnings=0, empty=0, generated=1)).eval()
    shown = batch(count=4)
    given = torch.randint(0, 16, (4, 5))
    given[2:] = -1
    with torch.no_grad():
        found = stage.loss(shown._replace(generated=given), 0.5)["pixels"]
        codes = torch.cat([given[:2], model.quantize(model.states(shown.pixels)[1]).codes[2:]])
        drawn = model.decoder.coarse(model.quantizer.decode(codes))
    difference = drawn - shown.pixels
    expected = (difference**2 + 0.1 * difference.abs()).mean()
    assert float(found.total / found.count) == pytest.approx(float(expected), rel=1e-5)


def test_what_is_drawn_of_a_beginning_knows_nothing_of_the_rest():
    model = tokenizer().eval()
    codes = np.random.default_rng(0).integers(0, 16, (4, 5))
    changed = codes.copy()
    changed[:, 3:] = (changed[:, 3:] + 1) % 16
    model.quantizer.codebook.normal_()
    for first in (0, 1, 3):
        drawn = [[p.tobytes() for p in model.decode(rows, first=first)] for rows in (codes, changed)]
        assert drawn[0] == drawn[1]
    assert [p.tobytes() for p in model.decode(codes)] != [p.tobytes() for p in model.decode(changed)]


def test_what_is_drawn_depends_on_seed_and_codes_alone():
    model = tokenizer().eval()
    model.quantizer.codebook.normal_()
    codes = np.random.default_rng(0).integers(0, 16, (6, 5))
    together = [np.asarray(p).astype(int) for p in model.decode(codes)]
    for row, one in zip(codes, together, strict=True):
        assert np.abs(np.asarray(model.decode(row[None])[0]).astype(int) - one).max() <= 1
    assert np.asarray(model.decode(codes[:1], seed=1)[0]).tobytes() != together[0].astype(np.uint8).tobytes()


@pytest.mark.slow
def test_a_flow_learns_to_draw_one_of_two_pictures_rather_than_their_mean():
    """Pictures that are all light or all dark, with nothing known: what is drawn is light or dark, hardly ever grey."""
    torch.manual_seed(0)
    flow = PixelFlow(PixelFlowConfig(dim=32, blocks=2, patch=4, steps=20, guidance=0.0), 8, 1, 2)
    optimizer = torch.optim.AdamW(flow.parameters(), 5e-3)
    nothing = torch.zeros(64, 3, 8, 8), torch.zeros(64, 1, 2)
    for _ in range(250):
        signs = torch.randint(0, 2, (64, 1, 1, 1)) * 2.0 - 1
        term = flow.loss(0.8 * signs.expand(64, 3, 8, 8), *nothing)
        optimizer.zero_grad()
        (term.total / term.count).backward()
        optimizer.step()
    one = nothing[0][:1], nothing[1][:1]
    with torch.inference_mode():
        levels = torch.stack([flow.sample(one, one, seed).mean() for seed in range(40)])
    assert ((levels.abs() - 0.8).abs() < 0.3).float().mean() > 0.85
    assert 5 < int((levels > 0).sum()) < 35


@given(st.integers(2, 12), st.integers(1, 20), st.floats(0, 1), st.floats(0, 1), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_codes_are_perturbed_to_near_neighbours(size, neighbours, pictures, share, seed):
    torch.manual_seed(seed)
    entries = torch.randn(size, 3)
    codes = torch.randint(0, size, (30, 6))
    options = PerturbConfig(pictures=pictures, codes=share, neighbours=neighbours)
    changed = perturbed(codes, entries[None], options)
    distances = torch.cdist(entries, entries)
    rank = distances.argsort(dim=1, stable=True).argsort(dim=1)
    assert int(rank[codes, changed].max()) <= min(neighbours, size - 1)
    if pictures == 0 or share == 0:
        assert torch.equal(codes, changed)
    if pictures == 1 and share == 1:
        assert (codes != changed).all()


def test_a_share_of_the_codes_is_perturbed():
    torch.manual_seed(0)
    entries, codes = torch.randn(64, 4), torch.randint(0, 64, (4000, 8))
    wrong = codes != perturbed(codes, entries[None], PerturbConfig(pictures=0.5, codes=0.2, neighbours=5))
    assert wrong.float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert wrong.any(dim=1).float().mean().item() == pytest.approx(0.5 * (1 - 0.8**8), abs=0.03)


def test_without_branches_there_is_no_stage_two_and_no_embedding_of_codes():
    model = tokenizer(branches=None)
    with pytest.raises(DataError, match="without `branches`"):
        model.embed_codes(np.zeros((1, 5), dtype=int))


@pytest.mark.slow
def test_the_picture_side_of_open_clip_by_name_and_file(tmp_path):
    """Features and embeddings are those of open_clip's own model, from a file of weights."""
    torch.manual_seed(0)
    reference = open_clip.create_model("ViT-S-32-alt").eval()
    save_file(reference.state_dict(), tmp_path / "weights.safetensors")
    named = {"kind": "open_clip", "model": "ViT-S-32-alt", "pretrained": str(tmp_path / "weights.safetensors")}
    model = tokenizer(side=224, tower=named, branches={"depth": 1, "reverse_depth": 1, "target": named})
    pixels = torch.rand(2, 3, 224, 224) * 2 - 1
    mean, std = (torch.tensor(values)[:, None, None] for values in (reference.visual.image_mean, reference.visual.image_std))
    expected = reference.encode_image(((pixels + 1) / 2 - mean) / std)
    torch.testing.assert_close(model.target.embed(pixels), expected.detach())
    assert model.tower(pixels).shape == (2, 49, reference.visual.transformer.width)
    other = {"pretrained": named["pretrained"], "force_image_size": 160, "weights_only": True}
    resized = open_clip.create_model("ViT-S-32-alt", **other).eval()
    smaller = tokenizer(side=160, tower=named).tower
    corner = pixels[..., :160, :160]
    torch.testing.assert_close(smaller.embed(corner), resized.encode_image(smaller.normalized(corner)).detach())
    shown = ImageBatch(pixels, torch.ones(2, 3, dtype=torch.int64), torch.full((2, 5), -1))
    for name in ("align", "quantize"):
        stage = STAGES[name][0](model, STAGES[name][1]).train()
        loss_of(stage.loss(shown, 0.5)).backward()
        assert not model.tower.model.training and all(
            p.grad is None for p in [*model.tower.parameters(), *model.target.parameters()]
        )
    model.save(tmp_path / "saved")
    (tmp_path / "weights.safetensors").unlink()
    again = ImageTokenizer.load(tmp_path / "saved")
    torch.testing.assert_close(again.target.embed(pixels), expected.detach())
    with pytest.raises(ConfigError, match="cannot be used with side 16"):
        tokenizer(tower=named)
