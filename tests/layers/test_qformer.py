"""Which query sees which, and what a sharper start does."""

import pytest
import torch

from mmpt.layers.qformer import Branch, Qformer, ReverseQformer


@pytest.mark.parametrize("causal", [True, False])
def test_a_query_sees_earlier_queries_alone_where_it_is_causal(causal):
    torch.manual_seed(0)
    model = Qformer(5, 16, 2, 2, feature_width=12, causal=causal)
    features = torch.randn(2, 7, 12)
    before = model(features)
    with torch.no_grad():
        model.queries[3] += torch.randn(16)  # a constant would be lost in the norms
    moved = (model(features) - before).abs().amax(dim=(0, 2)) > 1e-6
    assert before.shape == (2, 5, 16) and moved.tolist() == [not causal, not causal, not causal, True, True]


def test_sharpness_multiplies_the_logits_of_cross_attention_by_its_square():
    found = []
    for sharpness in (1.0, 3.0):
        torch.manual_seed(0)
        cross = Qformer(4, 8, 1, 1, 8, sharpness).blocks[0].cross
        x, memory = torch.randn(1, 4, 8), torch.randn(1, 6, 8)
        query, key = cross.query.weight, cross.key_value.weight[:8]
        found.append(x @ query.T @ (memory @ key.T).transpose(1, 2))
    torch.testing.assert_close(found[1], 9 * found[0])


def test_a_branch_gives_a_state_for_each_code_and_the_reverse_one_embedding():
    torch.manual_seed(0)
    vectors = torch.randn(3, 5, 6)
    assert Branch(5, 16, 1, 2, code_dim=6)(vectors).shape == (3, 5, 16)
    reverse = ReverseQformer(5, 16, 1, 2, code_dim=6, reverse_depth=1, out=9)
    whole = reverse(vectors)
    changed = vectors.clone()
    changed[1, 4] += 1.0
    moved = (reverse(changed) - whole).abs().amax(dim=1) > 1e-6
    assert whole.shape == (3, 9) and moved.tolist() == [False, True, False]
