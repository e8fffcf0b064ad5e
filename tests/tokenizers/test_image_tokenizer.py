"""The image tokenizer's promises: causal codes, no leak between pictures, a folder that gives back the same tokenizer."""

import json
import unicodedata

import numpy as np
import pytest
import torch
from examples_in_memory import image_batches
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmpt.config import parse_config
from mmpt.errors import CheckpointError, ConfigError, DataError
from mmpt.evaluation.metrics.image_tokenizer import _chance, gate_figures
from mmpt.tokenizers.image.batches import ImageBatch, ImageExample, picture_bytes, to_pixels
from mmpt.tokenizers.image.captions import caption_ids
from mmpt.tokenizers.image.config import CaptionConfig, Gates, ImageTokenizerConfig
from mmpt.tokenizers.image.losses import contrastive_loss, pixel_loss, prediction_loss
from mmpt.tokenizers.image.stages import JointConfig, JointStage
from mmpt.tokenizers.image.tokenizer import ImageTokenizer
from mmpt.tokenizers.image.towers._open_clip import _statistics
from mmpt.tokenizers.image.towers.timm import Timm
from mmpt.tokenizers.image.towers.vit import Vit
from mmpt.tokenizers.terms import Term

EMA = {"kind": "ema", "codes": 16, "dim": 6, "normalize": True}
FSQ = {"kind": "fsq", "levels": [4, 3, 2]}


def config(quantizer: dict = EMA, **changes) -> ImageTokenizerConfig:
    content = {
        "side": 16,
        "tower": {"patch": 4, "width": 32, "depth": 1, "heads": 4},
        "qformer": {"queries": 5, "width": 32, "depth": 2, "heads": 4},
        "quantizer": quantizer,
        "decoder": {"patch": 4, "width": 32, "depth": 1, "heads": 4},
        "captions": {"words": 6, "buckets": 64, "width": 16, "depth": 1, "heads": 2, "dim": 8},
        **changes,
    }
    return parse_config(content, ImageTokenizerConfig, "test")


class Plan:
    batch_size, seed = 6, 3


def pictures(count: int, seed: int = 0) -> list[Image.Image]:
    """Pictures of several sizes and modes, each of smooth random colours."""
    random = np.random.default_rng(seed)
    found = [Image.fromarray(random.integers(0, 255, (3, 4, 3), dtype=np.uint8)).resize((20 + i, 17)) for i in range(count)]
    return [picture.convert("L") if i % 4 == 3 else picture for i, picture in enumerate(found)]


def tokenizer(quantizer: dict = EMA, steps: int = 2, **changes) -> ImageTokenizer:
    """A tokenizer whose codebook has been started on pictures."""
    torch.manual_seed(0)
    model = ImageTokenizer(config(quantizer, **changes))
    batches = image_batches([ImageExample(p, f"picture {i % 7}") for i, p in enumerate(pictures(24))], model.config, Plan())
    joint = JointStage(model, JointConfig())
    for step in range(steps):
        joint.loss(batches(step), 0.9)
    return model.eval()


def loss_of(terms: dict[str, Term]) -> torch.Tensor:
    return sum(term.weight * term.total / term.count.clamp_min(1) for term in terms.values() if term.weight)


@pytest.mark.parametrize("quantizer", [EMA, FSQ])
def test_codes_and_pictures_have_the_promised_shapes(quantizer):
    model = tokenizer(quantizer)
    codes = model.encode(pictures(7))
    assert codes.dtype == np.int64 and codes.shape == (7, model.codes_per_image)
    assert codes.min() >= 0 and codes.max() < model.codes and len(np.unique(codes)) > 2
    drawn = model.decode(codes)
    assert [(picture.size, picture.mode) for picture in drawn] == [((16, 16), "RGB")] * 7
    assert model.encode([]).shape == (0, model.codes_per_image) and model.decode(codes[:0]) == []


@pytest.mark.parametrize("place", [1, 3, 4])
def test_a_code_depends_on_no_later_query(place):
    model = tokenizer(FSQ)
    before = model.states(to_pixels(np.stack([picture_bytes(p, 16) for p in pictures(3)])))[1]
    with torch.no_grad():
        model.qformer.queries[place] += torch.randn(32)
    after = model.states(to_pixels(np.stack([picture_bytes(p, 16) for p in pictures(3)])))[1]
    assert torch.equal(before[:, :place], after[:, :place])
    assert all(not torch.allclose(before[:, i], after[:, i]) for i in range(place, 5))


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 1000), count=st.integers(2, 70))
def test_codes_do_not_depend_on_the_neighbours(seed, count):
    model = test_codes_do_not_depend_on_the_neighbours.model
    shown = pictures(count, seed)
    order = np.random.default_rng(seed).permutation(count)
    together = model.encode(shown)
    assert np.array_equal(model.encode([shown[i] for i in order]), together[order])
    assert np.array_equal(model.encode(shown[:1]), together[:1])


test_codes_do_not_depend_on_the_neighbours.model = tokenizer()


@pytest.mark.parametrize("quantizer", [EMA, FSQ])
def test_a_saved_tokenizer_is_the_same_tokenizer(tmp_path, quantizer):
    model = tokenizer(quantizer)
    model.save(tmp_path / "saved")
    again = ImageTokenizer.load(tmp_path / "saved")
    assert again.config == model.config and not again.training
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    codes = model.encode(pictures(5))
    assert np.array_equal(again.encode(pictures(5)), codes)
    assert [p.tobytes() for p in again.decode(codes)] == [p.tobytes() for p in model.decode(codes)]


def test_a_folder_that_is_not_whole_is_refused(tmp_path):
    model = tokenizer()
    model.save(tmp_path / "saved")
    weights = tmp_path / "saved" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="model.safetensors: differs"):
        ImageTokenizer.load(tmp_path / "saved")
    (tmp_path / "saved" / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="manifest.json is missing"):
        ImageTokenizer.load(tmp_path / "saved")


@pytest.mark.parametrize(
    "codes", [np.zeros((2, 4), int), np.zeros(5, int), np.full((1, 5), 16), np.full((1, 5), -1), np.zeros((1, 5), float)]
)
def test_codes_of_a_wrong_shape_or_range_are_refused(codes):
    with pytest.raises(DataError, match="expected"):
        tokenizer(steps=1).decode(codes)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_step_is_a_function_of_seed_and_batch(precision):
    def once() -> tuple[torch.Tensor, torch.Tensor]:
        model = tokenizer(steps=1, precision=precision).train()
        batch = image_batches([ImageExample(p, "a") for p in pictures(9)], model.config, Plan())(1)
        torch.manual_seed(5)
        loss = loss_of(JointStage(model, JointConfig()).loss(batch, 0.5))
        loss.backward()
        return loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    (loss, gradient), (loss_again, gradient_again) = once(), once()
    assert torch.equal(loss, loss_again) and torch.equal(gradient, gradient_again) and gradient.abs().sum() > 0


@pytest.mark.slow
@pytest.mark.parametrize("quantizer", [EMA, FSQ])
def test_a_few_pictures_are_learned_by_heart(quantizer):
    shown = [ImageExample(p, f"picture {i}") for i, p in enumerate(pictures(6))]
    torch.manual_seed(0)
    model = ImageTokenizer(config(quantizer))
    joint = JointStage(model, JointConfig(quantize_from=0.2))
    batches = image_batches(shown, model.config, Plan())
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for step in range(150):
        output = joint.loss(batches(step), step / 150)
        optimizer.zero_grad()
        loss_of(output).backward()
        optimizer.step()
    targets = np.stack([picture_bytes(example.picture, 16) for example in shown]).astype(float)
    drawn = np.stack([np.asarray(p) for p in model.decode(model.encode([e.picture for e in shown]))]).astype(float)
    distances = np.square(drawn[:, None] - targets[None]).mean(axis=(2, 3, 4))
    assert (distances.argmin(axis=1) == np.arange(6)).all()
    assert distances.diagonal().mean() < 0.25 * targets.var(axis=0).mean()
    assert output["describe"].total / output["describe"].count < 0.5  # nats a word; untrained: log 64 = 4.2


def test_states_are_quantised_only_once_their_time_has_come():
    model = ImageTokenizer(config())
    joint = JointStage(model, JointConfig(quantize_from=0.5))
    batch = image_batches([ImageExample(p, "a") for p in pictures(9)], model.config, Plan())(0)
    assert "quantizer" not in joint.loss(batch, 0.49) and model.quantizer.steps == 0
    assert "quantizer" in joint.loss(batch, 0.5) and model.quantizer.steps == 1


def test_batches_are_a_function_of_the_step_and_every_epoch_shows_every_picture():
    examples = [ImageExample(Image.new("RGB", (16, 16), (i * 10, 0, 0)), f"number {i}") for i in range(9)]
    one, other = (image_batches(examples, config(), Plan()) for _ in range(2))
    for step in (5, 0, 5, 2):
        assert all(torch.equal(a, b) for a, b in zip(one(step), other(step), strict=True))
    for epoch in range(2):  # 9 pictures, 3 batches of 6 are two epochs
        seen = torch.cat([one(step).pixels[:, 0, 0, 0] for step in range(3)])[epoch * 9 : epoch * 9 + 9]
        assert len(seen.unique()) == 9
    with pytest.raises(DataError, match="no pictures"):
        image_batches([], config(), Plan())


def test_a_mirrored_picture_appears_only_where_it_is_allowed():
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, 16, dtype=np.uint8)[None, :, None], (16, 1, 3)))

    def directions(flip: bool) -> set[bool]:
        batches = image_batches([ImageExample(ramp, "ramp")], config(augment={"flip": flip, "shift": 2}), Plan())
        return {bool(row[0, 0, 0] > row[0, 0, -1]) for step in range(4) for row in batches(step).pixels}

    assert directions(False) == {False} and directions(True) == {False, True}


def test_shifted_pictures_repeat_their_border_and_stay_within_reach():
    picture = Image.new("RGB", (16, 16), "black")
    picture.putpixel((8, 8), (255, 255, 255))
    batches = image_batches([ImageExample(picture, "dot")], config(augment={"shift": 3}), Plan())
    places = {tuple((row[0] > 0).nonzero()[0].tolist()) for step in range(60) for row in batches(step).pixels}
    assert len(places) == 49 and all(5 <= value <= 11 for place in places for value in place)


def test_caption_ids_are_words_whatever_their_case_and_marks():
    captions = CaptionConfig(words=4, buckets=1000)
    assert caption_ids("A red, RED cat sits here", captions) == caption_ids("a RED red cat", captions)
    assert caption_ids("", captions) == [] and 0 not in caption_ids("one two three", captions)
    batch = image_batches([ImageExample(p, "") for p in pictures(6)], config(), Plan())(0)
    assert (
        batch.captions.shape == (6, 1)
        and loss_of(JointStage(ImageTokenizer(config()), JointConfig()).loss(batch, 0.5)).isfinite()
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("我喜欢茶", 4),
        ("お茶をどうぞ", 6),
        ("ขอบคุณ", 5),
        ("नमस्ते दुनिया कैसे हो", 4),
        ("😀 a cat 🐱", 4),
        ("naïve café", 2),
        ("...!", 0),
    ],
)
def test_captions_of_all_scripts_have_words(text, words):
    found = caption_ids(text, CaptionConfig(words=20, buckets=4096))
    assert len(found) == words and len(set(found)) == len(found)
    assert found == caption_ids(unicodedata.normalize("NFD", text), CaptionConfig(words=20, buckets=4096))


def test_pictures_without_a_caption_are_nobodys_answer():
    torch.manual_seed(0)
    pictures, texts, scale = torch.randn(4, 8, requires_grad=True), torch.randn(4, 8), torch.tensor(1.0)
    ids = torch.tensor([[3, 4], [0, 0], [5, 0], [0, 0]])
    loss = contrastive_loss(pictures, texts, ids, scale)
    told = [0, 2]
    assert loss.item() == pytest.approx(contrastive_loss(pictures[told], texts[told], ids[told], scale).item())
    (gradient,) = torch.autograd.grad(loss, pictures)
    assert (gradient[[1, 3]] == 0).all() and (gradient[told] != 0).any()
    none = contrastive_loss(pictures, texts, torch.zeros(4, 2, dtype=torch.int64), scale)
    assert none.item() == 0.0 and (torch.autograd.grad(none, pictures)[0] == 0).all()


def test_a_frozen_tower_without_weights_is_a_mistake():
    with pytest.raises(ConfigError, match="pretrained: missing"):
        config(tower={"kind": "open_clip", "model": "ViT-S-32-alt"})


def test_towers_of_siglip_keep_their_own_normalisation_whatever_their_weights_come_from():
    import open_clip

    class Bare:
        image_mean, image_std = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)

    assert _statistics("ViT-B-16-SigLIP", None, Bare) == ((0.5,) * 3, (0.5,) * 3)
    assert _statistics("a model of one's own", "weights.pt", Bare) == (Bare.image_mean, Bare.image_std)
    tag = open_clip.list_pretrained_tags_by_model("ViT-B-16-SigLIP")[0]
    assert _statistics("ViT-B-16-SigLIP", tag, Bare) == (Bare.image_mean, Bare.image_std)  # open_clip has set them


def test_bad_codes_of_bad_embeddings_pass_no_gate():
    """Codes lie below embeddings by nothing where both are chance."""
    figures = {"codes_used": 1.0, "entropy": 1.0, "gap": 0.5, "R@mean by chance": 0.02, "embeddings, R@mean": 0.03}
    gates = Gates(prefixes=False)
    assert [one.ok for one in gate_figures(figures, gates)] == [True, True, True, False]
    assert all(one.ok for one in gate_figures({**figures, "embeddings, R@mean": 0.21}, gates))
    assert all(one.ok for one in gate_figures({**figures, "R@mean by chance": 0.3, "embeddings, R@mean": 0.51}, gates))


def test_chance_is_what_unrelated_embeddings_find():
    captions = [f"picture {number % 40}" for number in range(80)]
    # One in 40 captions for a picture, two of 80 pictures for a caption; at 1, 5 and 10.
    expected = np.mean([1 / 40, 5 / 40, 10 / 40, 2 / 80, 1 - (75 * 74) / (80 * 79), 1 - (70 * 69) / (80 * 79)])
    assert _chance(np.zeros((80, 16)), captions) == pytest.approx(expected, abs=0.03)


def test_beginnings_and_texts_at_their_limits():
    model = tokenizer().eval()
    assert model.embed_texts([]).shape == (0, 8)
    for first in (-1, 6):
        with pytest.raises(DataError, match="expected 0 … 5"):
            model.decode(np.zeros((1, 5), dtype=int), first=first)


def test_padding_changes_no_caption():
    model = tokenizer()
    short = torch.tensor([[5, 9]])
    padded = torch.tensor([[5, 9, 0, 0]])
    for one, other in zip(model.text(short), model.text(padded), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_pictures_with_one_caption_are_right_answers_for_each_other():
    vectors = torch.eye(3)[[0, 0, 1]]
    ids = torch.tensor([[1], [1], [2]])
    scale = torch.tensor(3.0)
    matched = contrastive_loss(vectors, vectors, ids, scale)
    logits = (vectors @ vectors.t() * scale.exp()).double()
    smoothed = torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]]).double() * 0.9 + 0.1 / 3
    assert matched.item() == pytest.approx(-(smoothed * logits.log_softmax(dim=1)).sum(dim=1).mean().item(), rel=1e-5)


def test_prediction_loss_is_the_share_of_variance_left_open():
    states = torch.randn(200, 3, 4, generator=torch.Generator().manual_seed(0))
    assert prediction_loss(states, states) == 0
    assert prediction_loss(states, states.mean(dim=0).expand_as(states)).item() == pytest.approx(1, abs=1e-3)
    for scale in (0.5, 2.0):
        assert prediction_loss(states * scale, states * scale / 2).item() == pytest.approx(0.25, abs=0.02)


def test_pixel_loss_without_tolerance_is_its_definition():
    drawn, pixels = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    difference = (drawn - pixels).numpy().astype(np.float64)
    assert pixel_loss(drawn, pixels, 0).item() == pytest.approx((difference**2 + 0.1 * abs(difference)).mean(), rel=1e-5)


@given(x=st.integers(-2, 2), y=st.integers(-2, 2), tolerance=st.integers(0, 2))
@settings(deadline=None, max_examples=30)
def test_a_shape_may_be_off_by_the_tolerance_and_no_further(x, y, tolerance):
    pixels = torch.zeros(1, 3, 16, 16)
    pixels[..., 5:9, 6:10] = 1.0
    moved = pixels.roll((y, x), dims=(-2, -1))
    assert (pixel_loss(moved, pixels, tolerance).item() < 1e-9) == (max(abs(x), abs(y)) <= tolerance)


def test_a_crisp_shape_nearby_is_better_than_a_blur_over_where_it_may_be():
    pixels = torch.zeros(1, 3, 16, 16)
    pixels[..., 5:9, 6:10] = 1.0
    moved = [pixels.roll(x, dims=-1) for x in (-1, 0, 1)]
    blur = torch.stack(moved).mean(dim=0)
    assert sum(pixel_loss(moved[1], m, 1) for m in moved) < sum(pixel_loss(blur, m, 1) for m in moved)


def test_the_caption_is_scored_word_by_word_without_its_padding():
    model = tokenizer()
    vectors = torch.randn(2, 5, 6)
    short, padded = torch.tensor([[5, 9], [7, 3]]), torch.tensor([[5, 9, 0, 0], [7, 3, 0, 0]])
    loss = model.describer(vectors, short)
    assert torch.allclose(model.describer(vectors, padded), loss, atol=1e-6)
    singly = torch.stack([model.describer(vectors[i : i + 1], short[i : i + 1]) for i in range(2)])
    assert torch.allclose(singly.mean(), loss, atol=1e-6)


def test_a_word_of_the_caption_is_not_seen_before_it_is_written():
    model = tokenizer()
    vectors = torch.randn(1, 5, 6)
    first_alone = model.describer(vectors, torch.tensor([[5]])).item()
    for second in (3, 40):  # mean over two words: what is left after the second word's own share is the first word's loss
        pair = torch.tensor([[5, second]])
        both = model.describer(vectors, pair).item()
        read = torch.cat([model.describer.codes(vectors), model.describer.words(pair[:, :1])], dim=1)
        hidden = read + model.describer.positions[:6]
        for block in model.describer.blocks:
            hidden = block(hidden, model.describer.mask[:6, :6])
        second_loss = -model.describer.out(hidden[:, 5]).log_softmax(dim=-1)[0, second].item()
        assert 2 * both - second_loss == pytest.approx(first_alone, abs=1e-4)


def test_a_frozen_tower_of_timm_never_changes(tmp_path):
    model = tokenizer(EMA, steps=1, tower={"kind": "timm", "model": "test_vit", "pretrained": False}, side=160).train()
    assert not model.tower.model.training
    pixels = torch.rand(4, 3, 160, 160) * 2 - 1
    batch = ImageBatch(pixels, torch.ones(4, 2, dtype=torch.int64), torch.full((4, model.codes_per_image), -1))
    loss_of(JointStage(model, JointConfig()).loss(batch, 0.5)).backward()
    assert all(parameter.grad is None for parameter in model.tower.parameters())
    assert model.qformer.queries.grad.abs().sum() > 0
    model.save(tmp_path / "saved")
    assert np.array_equal(ImageTokenizer.load(tmp_path / "saved").encode(pictures(2)), model.encode(pictures(2)))


def test_a_tower_of_timm_takes_other_sides_as_timm_itself_does():
    """Against timm's resampling in each pass; a model with its own side keeps its table."""
    import timm

    tower = Timm(model="test_vit", pretrained=False).build(160)
    flexible = timm.create_model("test_vit", num_classes=0, dynamic_img_size=True).eval()
    flexible.load_state_dict(tower.model.state_dict())
    smaller = Timm(model="test_vit", pretrained=False).build(96)
    fitted = timm.create_model("test_vit", num_classes=0)
    fitted.load_state_dict(tower.model.state_dict())
    fitted.set_input_size(img_size=96)
    smaller.model.load_state_dict(fitted.state_dict())
    for one in (tower, smaller):
        side = 160 if one is tower else 96
        pixels = torch.rand(2, 3, side, side) * 2 - 1
        with torch.no_grad():
            wanted = flexible.forward_features(tower.normalized(pixels))
        torch.testing.assert_close(one(pixels), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tower": {"patch": 3, "width": 32, "depth": 1, "heads": 4}}, "tower.patch 3 is no power of two"),
        ({"qformer": {"queries": 5, "width": 30, "depth": 1, "heads": 4}}, "qformer.width 30 is no multiple"),
        ({"quantizer": {"kind": "none", "dim": 4}}, "quantizer.kind none does not give one code"),
        ({"quantizer": {"kind": "fsq", "levels": [4, 1]}}, "quantizer.levels"),
        ({"picture": 3}, "picture: unknown key"),
    ],
)
def test_a_configuration_that_cannot_work_says_why(changes, message):
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def test_a_tower_from_scratch_halves_the_side_and_sees_patches_in_order():
    """Width and number of features, and that convolutions alone (depth 0) see no more than a patch and its neighbours."""
    torch.manual_seed(0)
    tower = Vit(patch=8, width=12, depth=0, heads=4).build(32)
    pixels = torch.randn(1, 3, 32, 32)
    changed = pixels.clone()
    changed[..., 8:16, 24:32] += torch.randn(3, 8, 8)
    moved = (tower(changed) - tower(pixels)).abs().amax(dim=-1)[0].unflatten(0, (4, 4)) > 1e-6
    assert tower(pixels).shape == (1, 16, 12) and tower.width == 12 and moved[1, 3]
    assert not moved[3].any() and not moved[:, :2].any()


def test_an_unknown_timm_tower_is_a_mistake_of_the_configuration():
    with pytest.raises(ConfigError, match="no_such_tower"):
        ImageTokenizer(config(tower={"kind": "timm", "model": "no_such_tower", "pretrained": False}))


def test_config_json_is_plain_and_complete(tmp_path):
    model = tokenizer(FSQ, steps=1)
    model.save(tmp_path / "saved")
    content = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert parse_config(content, ImageTokenizerConfig, "saved") == model.config
