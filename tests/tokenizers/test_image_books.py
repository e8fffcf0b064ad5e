"""Several codes for each query: those of the first codebook first; what a beginning of them draws."""

import numpy as np
import torch

from mmpt.tokenizers.image.stage_config import PerturbConfig
from mmpt.tokenizers.image.stages import (
    DrawConfig,
    DrawStage,
    JointConfig,
    JointStage,
    QuantizeConfig,
    QuantizeStage,
)

from .tiny_image import pictures
from .tiny_stages import batch, tokenizer

RESIDUAL = {"kind": "residual", "stages": 3, "stage": {"kind": "ema", "codes": 8, "dim": 6}}


def started(**changes):
    model = tokenizer(quantizer=RESIDUAL, **changes)
    stage = JointStage(model, JointConfig(beginnings=0.5)).train()
    for seed in range(3):
        stage.loss(batch(seed=seed), 0.5)
    return model.eval()


def test_a_picture_has_the_codes_of_each_book_in_turn():
    model = started()
    assert (model.codes, model.codes_per_image, model.figures.bits) == (24, 15, 45.0)
    codes = model.encode(pictures(4))
    assert codes.shape == (4, 15) and (codes // 8 == np.repeat(range(3), 5)).all()


def test_vectors_of_a_beginning_are_sums_over_the_books_that_are_given():
    model = started()
    codes = torch.from_numpy(model.encode(pictures(2)))
    books = [stage.codebook for stage in model.quantizer.stages]
    counts = torch.tensor([5, 12])  # the first book alone; all of the second and two of the third
    found = model.vectors(codes, counts)
    for place in range(5):
        first, second, third = (books[book][codes[:, 5 * book + place] - 8 * book] for book in range(3))
        torch.testing.assert_close(found[0, place], first[0])
        torch.testing.assert_close(found[1, place], (first + second)[1] + (third[1] if place < 2 else 0))
    torch.testing.assert_close(model.meaning(codes), model.vectors(codes, torch.tensor([5, 5])))
    torch.testing.assert_close(model.vectors(codes), model.vectors(codes, torch.tensor([15, 15])))


def test_captions_are_compared_with_the_first_book_alone():
    model = started()
    codes = model.encode(pictures(3))
    other = np.concatenate([codes[:, :5], np.roll(codes[:, 5:], 1, axis=0)], axis=1)
    assert np.array_equal(model.embed_codes(codes), model.embed_codes(other))
    assert not np.array_equal(np.asarray(model.decode(codes)[0]), np.asarray(model.decode(other)[0]))


def test_every_stage_trains_them_with_perturbed_codes_too():
    model = started()
    perturb = PerturbConfig(pictures=1, codes=1, neighbours=3, until=0.5)
    for kind, settings in (
        (JointStage, JointConfig(beginnings=0.5, perturb=perturb)),
        (QuantizeStage, QuantizeConfig(perturb=perturb)),
        (DrawStage, DrawConfig(perturb=perturb)),
    ):
        stage = kind(model, settings).train()
        codes = torch.full((8, 15), -1)
        terms = stage.loss(batch()._replace(generated=codes), 0.2)
        assert all(term.total.isfinite().all() for term in terms.values())


def test_perturbed_codes_teach_a_codebook_with_the_gradient_of_the_right_ones_until_they_have_gone():
    """RobusTok: what is drawn of is the neighbour, what learns is the state; less and less, and none beyond `until`."""
    model = tokenizer()
    config = QuantizeConfig(perturb=PerturbConfig(pictures=1, codes=1, neighbours=1, until=0.8))
    stage = QuantizeStage(model, config).train()
    stage.loss(batch(), 0.1)
    model.eval()
    states = model.states(batch().pixels)[1].detach().requires_grad_()
    quantized = model.quantize(states)
    for progress, wrong in ((0.0, 1.0), (0.4, 0.5), (0.9, 0.0)):
        torch.manual_seed(0)
        shares = [(stage.read(quantized, config, progress) != quantized.codes).any(dim=1).float().mean() for _ in range(60)]
        assert abs(float(torch.stack(shares).mean()) - wrong) < 0.07
    codes = stage.read(quantized, config, 0.0)
    vectors = stage.meant(states, quantized, codes, perturb=True)
    distances = torch.cdist(model.quantizer.codebook, model.quantizer.codebook).fill_diagonal_(torch.inf)
    assert torch.equal(codes, distances.argmin(dim=1)[quantized.codes])
    torch.testing.assert_close(vectors, model.quantizer.codebook[codes])
    (gradient,) = torch.autograd.grad(vectors.sum(), states)
    assert torch.equal(gradient, torch.ones_like(states))


def test_any_divisor_of_the_side_is_a_patch_and_codes_may_stand_beside_the_patches():
    for patch, factors in ((1, [1]), (8, [2, 2, 2]), (14, [7, 2]), (6, [3, 2])):
        decoder = {
            "patch": patch,
            "width": 16,
            "depth": 1,
            "heads": 2,
            "join": "attention",
            "flow": {"dim": 8, "blocks": 1, "patch": patch},
        }
        side = 8 if patch in (1, 8) else 4 * patch
        model = tokenizer(side=side, tower={"patch": 4, "width": 16, "depth": 1, "heads": 2}, decoder=decoder)
        shuffles = [one.upscale_factor for one in model.decoder.coarse.upsampling if isinstance(one, torch.nn.PixelShuffle)]
        assert shuffles == factors
        assert model.decoder.coarse(torch.randn(2, 5, 6)).shape == (2, 3, side, side)
        (image,) = model.decode(np.zeros((1, 5), dtype=int))
        assert image.size == (side, side)


def test_a_decoder_beside_its_patches_does_not_grow_with_codes_times_patches():
    """DINOv2's side and patch: the joined map alone would have 32 · 32 · 37² · 512 weights, 0.7 G."""
    decoder = {"patch": 14, "width": 512, "depth": 2, "heads": 8, "join": "attention"}
    with torch.device("meta"):
        from mmpt.tokenizers.image.config import DecoderConfig
        from mmpt.tokenizers.image.decoder import ImageDecoder

        model = ImageDecoder(518, 32, 32, DecoderConfig(**decoder))
        assert model.coarse(torch.empty(1, 32, 32)).shape == (1, 3, 518, 518)
    assert sum(weight.numel() for weight in model.parameters()) < 25e6
