"""What a pass over pieces and single tokens sees of the keys and values that are kept, against each row by itself."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from mmpt.model.key_values import KeyValues


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_a_piece_beside_single_tokens_sees_its_own_past_whatever_its_number(length):
    """Of four rows the one numbered 3 goes on by a piece; at length 2 the single tokens see 3 tokens each."""
    draw, cache, heads, size = torch.Generator().manual_seed(length), KeyValues(), 2, 4
    counts = [length] * 4, [1, 1, 1, 3]
    tokens = torch.randn(4, 3, heads, length + 3, size, generator=draw)  # row, (query, key, value)
    for _ in range(4):
        cache.add(length + 3)
    first = cache.append(counts[0])
    first.store(0, *(torch.cat([row[part, :, :length] for row in tokens], dim=1)[None] for part in (1, 2)))
    first.done()
    then = cache.append(counts[1])
    new = [
        torch.cat([tokens[row, part, :, length : length + counts[1][row]] for row in then.order], 1)[None] for part in range(3)
    ]
    found, start = then.attend(0, *new, scale=None, window=None), 0
    for row in then.order:
        end = length + counts[1][row]
        query, key, value = (tokens[row, part, :, :end][None] for part in range(3))
        wanted = scaled_dot_product_attention(query, key, value, is_causal=True)[:, :, length:]
        torch.testing.assert_close(found[:, :, start : start + counts[1][row]], wanted)
        start += counts[1][row]
