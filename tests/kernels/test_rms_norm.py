"""What RMSNorm does beside its function (kernels/check.py has that): the dtype of its result, results that nobody reads."""

import pytest
import torch

from mmpt.kernels.rms_norm import add_rms_norm, reference, rms_norm


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).requires_grad_()


def test_under_autocast_the_result_is_what_products_would_make_of_it():
    x, weight, matrix = normal(5, 33), normal(33), normal(33, 4)
    wanted = (rms_norm(x, weight).bfloat16() @ matrix.bfloat16()).float().sum()
    slopes = torch.autograd.grad(wanted, (x, weight))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        normed, total = add_rms_norm(x, torch.zeros_like(x), weight)
        assert rms_norm(x.bfloat16(), weight).dtype == torch.bfloat16 and total.dtype == torch.float32
        assert torch.equal(normed, rms_norm(x, weight)) and normed.dtype == torch.bfloat16
        found = (rms_norm(x, weight) @ matrix).float().sum()
    assert torch.equal(found, wanted) and rms_norm(x, weight).dtype == torch.float32
    for slope, one in zip(slopes, torch.autograd.grad(found, (x, weight)), strict=True):
        assert one.dtype == torch.float32 and torch.equal(one, slope)


@pytest.mark.parametrize("kernel", ["torch", "triton"])
@pytest.mark.parametrize("read", [(0,), (1,), (0, 1)])
def test_of_norm_and_sum_either_may_have_no_reader(kernel, read):
    parts = [normal(5, 33), normal(5, 33).detach().mul(2).requires_grad_(), normal(33)]
    wanted = reference(*parts, 1e-6, 0.0)
    slopes = torch.autograd.grad(sum(wanted[one].square().sum() for one in read), parts, allow_unused=True)
    found = add_rms_norm(*parts, kernel=kernel)
    for slope, one in zip(slopes, torch.autograd.grad(sum(found[n].square().sum() for n in read), parts), strict=True):
        assert (one - (0 if slope is None else slope)).abs().max() <= 1e-5
