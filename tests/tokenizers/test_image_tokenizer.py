"""The image tokenizer's promises: causal codes, no leak between pictures, a folder that gives back the same tokenizer."""

import json

import numpy as np
import pytest
import torch
from examples_in_memory import image_batches
from hypothesis import given, settings
from hypothesis import strategies as st
from thorough import thorough

from mmpt.config import parse_config
from mmpt.errors import CheckpointError, ConfigError, DataError
from mmpt.evaluation.metrics.image_gates import gate_figures
from mmpt.evaluation.metrics.image_tokenizer import _chance
from mmpt.tokenizers.image.batches import ImageExample
from mmpt.tokenizers.image.config import ImageTokenizerConfig
from mmpt.tokenizers.image.gates import Gates
from mmpt.tokenizers.image.pixels import picture_bytes, to_pixels
from mmpt.tokenizers.image.stages import JointConfig, JointStage
from mmpt.tokenizers.image.tokenizer import ImageTokenizer

from .tiny_image import EMA, FSQ, Plan, config, loss_of, pictures, tokenizer


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
@pytest.mark.parametrize("quantizer", [EMA, *thorough(FSQ)])
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tower": {"patch": 3, "width": 32, "depth": 1, "heads": 4}}, "tower.patch 3 is no power of two"),
        ({"qformer": {"queries": 5, "width": 30, "depth": 1, "heads": 4}}, "qformer.width 30 is no multiple"),
        ({"quantizer": {"kind": "none", "dim": 4}}, "quantizer.kind none gives no codes"),
        ({"quantizer": {"kind": "fsq", "levels": [4, 1]}}, "quantizer.levels"),
        ({"picture": 3}, "picture: unknown key"),
    ],
)
def test_a_configuration_that_cannot_work_says_why(changes, message):
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def test_config_json_is_plain_and_complete(tmp_path):
    model = tokenizer(FSQ, steps=1)
    model.save(tmp_path / "saved")
    content = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert parse_config(content, ImageTokenizerConfig, "saved") == model.config
