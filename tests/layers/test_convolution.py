"""What a convolutional block sees of the frames around one."""

import pytest
import torch

from mmpt.layers.convolution import KERNEL, ConvBlock


@pytest.mark.parametrize("causal", [False, True])
def test_a_frame_sees_the_kernel_and_nothing_past_the_end(causal):
    torch.manual_seed(0)
    block, x = ConvBlock(4, causal), torch.randn(1, 20, 4)
    mask = torch.ones(1, 20, 1, dtype=torch.bool)
    whole = block(x, mask)
    changed = x.clone()
    changed[0, 10] += 1.0
    moved = (block(changed, mask) - whole).abs().sum(dim=-1)[0].gt(1e-6).nonzero()[:, 0]
    first, last = (10, 10 + KERNEL - 1) if causal else (10 - KERNEL // 2, 10 + KERNEL // 2)
    assert moved.min() == first and moved.max() == last
    mask[0, 15:] = False
    filled = x.clone()
    filled[0, 15:] = 1e3
    assert torch.equal(block(filled, mask)[0, :15], block(x, mask)[0, :15])
