"""The codebook that learns by its gradient: values of the loss worked out by hand, and which side each term moves."""

import pytest
import torch

from mmpt.tokenizers.quantizers.vq import Vq

ENTRIES = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
INPUTS = torch.tensor([[[0.9, 0.2], [0.1, 1.5], [-0.3, -0.4]]])


def quantizer(**settings):
    made = Vq(codes=3, dim=2, **settings).build()
    with torch.no_grad():
        made.codebook.copy_(ENTRIES)
    return made


def test_each_input_takes_its_nearest_entry_and_the_gradient_passes_it_by():
    inputs = INPUTS.clone().requires_grad_()
    found = quantizer().eval()(inputs)
    assert found.codes.tolist() == [[1, 2, 0]]
    assert torch.equal(found.states.detach(), ENTRIES[[1, 2, 0]][None])
    assert torch.equal(quantizer().decode(found.codes), ENTRIES[[1, 2, 0]][None])
    (found.states * torch.arange(6.0).view(1, 3, 2)).sum().backward()
    assert torch.equal(inputs.grad, torch.arange(6.0).view(1, 3, 2))


# Squared distances, meaned over two values: (0.01 + 0.04) / 2, (0.01 + 0.25) / 2, (0.09 + 0.16) / 2.
DISTANCES = [0.025, 0.13, 0.125]


@pytest.mark.parametrize("legacy", [False, True])
def test_the_loss_is_that_of_equation_3_and_beta_weighs_the_inputs_or_by_the_slip_the_entries(legacy):
    made, inputs = quantizer(beta=0.25, legacy=legacy).train(), INPUTS.clone().requires_grad_()
    found = made(inputs)
    assert found.loss.item() == pytest.approx(1.25 * sum(DISTANCES)) and found.count.item() == 3
    found.loss.backward()
    away = INPUTS[0] - ENTRIES[[1, 2, 0]]  # the gradient of a mean over two values of squares is the difference itself
    entries, moved = (0.25, 1.0) if legacy else (1.0, 0.25)
    assert torch.allclose(made.codebook.grad, -entries * away[[2, 0, 1]], atol=1e-6)
    assert torch.allclose(inputs.grad[0], moved * away, atol=1e-6)


def test_what_is_masked_is_not_learned():
    mask = torch.tensor([[True, False, True]])
    found = quantizer().train()(INPUTS, mask)
    assert found.loss.item() == pytest.approx(1.25 * (DISTANCES[0] + DISTANCES[2])) and found.count.item() == 2


def test_entries_start_uniformly_within_one_over_their_number():
    torch.manual_seed(0)
    entries = Vq(codes=64, dim=32).build().codebook
    assert entries.abs().max() <= 1 / 64 and entries.std().item() == pytest.approx(1 / 64 / 3**0.5, rel=0.05)


def test_with_task_the_entries_take_the_gradient_of_what_is_made_of_them_too():
    made, inputs = quantizer(task=True), INPUTS.clone().requires_grad_()
    found = made.eval()(inputs)
    assert torch.equal(found.states.detach(), ENTRIES[[1, 2, 0]][None])
    (found.states * torch.arange(6.0).view(1, 3, 2)).sum().backward()
    assert torch.equal(inputs.grad, torch.arange(6.0).view(1, 3, 2))
    assert torch.equal(made.codebook.grad[[1, 2, 0]], torch.arange(6.0).view(3, 2))


def test_entries_begin_by_k_means_of_given_rows():
    rows = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    made = quantizer()
    made.begin(rows)
    nearest = torch.cdist(rows, made.codebook.detach()).argmin(dim=1)  # ten rounds are enough for sixty rows
    means = torch.stack([rows[nearest == code].mean(dim=0) for code in range(3)])
    torch.testing.assert_close(made.codebook.detach(), means, atol=1e-5, rtol=1e-4)
