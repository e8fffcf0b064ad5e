"""Packed attention against its definition for any documents, pictures and windows."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.kernels.attention import _edges, dense_mask, packed_attention, reference


@st.composite
def rows(draw):
    """(lengths, pictures within documents, window)."""
    lengths = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=5)))
    spans, first = [], 0
    for length in lengths:
        place = first
        while place < first + length and draw(st.booleans()):
            start = draw(st.integers(place, first + length - 1))
            end = draw(st.integers(start + 1, first + length))
            spans.append((start, end))
            place = end
        first += length
    return lengths, tuple(spans), draw(st.none() | st.integers(1, 6))


@settings(deadline=None, max_examples=60)
@given(rows(), st.integers(0, 99))
def test_every_back_end_is_the_definition(row, seed):
    lengths, spans, window = row
    draw = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(1, heads, sum(lengths), 4, generator=draw, dtype=torch.float64) for heads in (4, 2, 2))
    wanted = reference(query, key, value, lengths, spans, window)
    for backend in ("documents", "dense"):
        found = packed_attention(query, key, value, lengths, spans, window, backend=backend)
        assert (found - wanted).abs().max() <= 1e-12


@settings(deadline=None, max_examples=60)
@given(rows())
def test_the_mask_is_what_the_words_say(row):
    lengths, spans, window = row
    seen = dense_mask(lengths, spans, window)
    document = [number for number, length in enumerate(lengths) for _ in range(length)]
    for q in range(len(document)):
        for k in range(len(document)):
            back = k <= q and (window is None or q - k < window)
            together = any(a <= q < b and a <= k < b for a, b in spans)
            assert bool(seen[q, k]) == (document[q] == document[k] and (back or together))


def test_the_edges_of_a_pack_that_an_evaluation_met_first_serve_a_training():
    with torch.inference_mode():
        edges = _edges((3, 4, 11), torch.device("cpu"))
    assert edges.tolist() == [0, 3, 7, 18] and not edges.is_inference()
