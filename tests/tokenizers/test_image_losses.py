"""Losses of the image tokenizer against their definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.tokenizers.image.losses import contrastive_loss, pixel_loss, prediction_loss


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
    told = torch.ones(200, dtype=torch.bool)
    assert prediction_loss(states, states, told) == 0
    assert prediction_loss(states, states.mean(dim=0).expand_as(states), told).item() == pytest.approx(1, abs=1e-3)
    for scale in (0.5, 2.0):
        assert prediction_loss(states * scale, states * scale / 2, told).item() == pytest.approx(0.25, abs=0.02)


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


def test_an_image_without_a_caption_is_not_predicted():
    states, predicted = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0)).unbind()
    told = torch.tensor([True, False, True, True, False, True])
    other = torch.where(told[:, None, None], predicted, 1e3)
    assert prediction_loss(states, other, told) == prediction_loss(states, predicted, told) > 0.5
    predicted.requires_grad_(True)
    nothing = prediction_loss(states, predicted, ~torch.ones(6, dtype=torch.bool))
    nothing.backward()
    assert nothing == 0 and predicted.grad is not None and predicted.grad.abs().sum() == 0
