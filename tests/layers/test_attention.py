"""The one block against torch's own attention and layers, and against what a mask hides."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmpt.layers.attention import Attention, Block, blocks
from mmpt.layers.masks import length_mask, local_mask
from mmpt.layers.positions import rotations


@pytest.mark.parametrize("memory_width", [None, 12])
def test_attention_is_that_of_torch(memory_width):
    torch.manual_seed(0)
    ours = Attention(16, 4, memory_width)
    theirs = nn.MultiheadAttention(16, 4, kdim=memory_width, vdim=memory_width, batch_first=True)
    key, value = ours.key_value.weight.chunk(2)
    with torch.no_grad():
        if memory_width is None:
            theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, key, value]))
        else:
            theirs.q_proj_weight.copy_(ours.query.weight)
            theirs.k_proj_weight.copy_(key)
            theirs.v_proj_weight.copy_(value)
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    x, memory = torch.randn(2, 5, 16), torch.randn(2, 7, memory_width or 16)
    seen = torch.rand(5, 7) < 0.6
    seen[:, 0] = True
    expected, _ = theirs(x, memory, memory, attn_mask=~seen, need_weights=False)
    torch.testing.assert_close(ours(x, memory, seen), expected, atol=1e-6, rtol=1e-5)


def test_a_block_is_attention_and_an_mlp_behind_their_norms_each_added():
    torch.manual_seed(0)
    block = Block(16, 2, memory_width=12)
    x, memory = torch.randn(3, 6, 16), torch.randn(3, 4, 12)
    seen = length_mask(torch.tensor([4, 2, 1]), 4)
    normed = F.layer_norm(x, (16,))
    after = x + block.attention(normed, normed)
    after = after + block.cross(F.layer_norm(after, (16,)), memory, seen[:, None, None])
    expected = after + block.mlp(after)
    torch.testing.assert_close(block(x, None, memory, seen[:, None, None]), expected)
    hidden = torch.where(seen[..., None], memory, torch.full_like(memory, 9.0))
    assert torch.equal(block(x, None, hidden, seen[:, None, None]), block(x, None, memory, seen[:, None, None]))
    assert not torch.allclose(block(x, None, memory), expected)


def test_dropout_acts_in_training_alone_and_depth_says_how_many():
    torch.manual_seed(0)
    (one, _) = blocks(2, 8, 2, dropout=0.5)
    x = torch.randn(1, 3, 8)
    assert not torch.equal(one(x), one(x)) and torch.equal(one.eval()(x), one(x))


def test_with_angles_a_layer_knows_distances_alone():
    torch.manual_seed(0)
    block = Block(16, 2).eval()
    x = torch.randn(1, 6, 16)
    at = [block(x, angles=rotations(start + torch.arange(6), 8)) for start in (0, 100)]
    torch.testing.assert_close(at[0], at[1], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(at[0], block(x), atol=1e-3)


@pytest.mark.parametrize("block", [None, 3])
def test_a_local_mask_is_what_it_says_for_each_pair(block):
    valid = length_mask(torch.tensor([7, 4]), 7)
    found = local_mask(valid, 2, block)
    for row in range(2):
        for query in range(7):
            for key in range(7):
                near = abs(query - key) <= 2
                if block:
                    near = query - key <= 2 and key // block <= query // block
                assert found[row, 0, query, key] == (query == key or (near and bool(valid[row, key])))
