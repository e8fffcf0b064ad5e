"""Sinusoids against Whisper's own table, rotations against transformers' Llama."""

import torch
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.whisper.modeling_whisper import sinusoids as whisper_sinusoids

from mmpt.layers.positions import rotate, rotations, sinusoids, table


def test_sinusoids_are_whispers_and_hold_between_whole_positions():
    torch.testing.assert_close(sinusoids(torch.arange(50), 16), whisper_sinusoids(50, 16), atol=1e-5, rtol=1e-5)
    between = sinusoids(torch.tensor([[0.5]]), 7)
    assert between.shape == (1, 1, 7) and between[0, 0, 6] == 0
    torch.testing.assert_close(between[0, 0, 0], torch.tensor(0.5).sin())


def test_rotations_are_those_of_llama():
    from transformers import LlamaConfig

    config = LlamaConfig(hidden_size=16, num_attention_heads=2)
    x, positions = torch.randn(1, 2, 5, 8), torch.arange(5)
    cosine, sine = LlamaRotaryEmbedding(config)(x, positions[None])
    expected, _ = apply_rotary_pos_emb(x, x, cosine, sine)
    torch.testing.assert_close(rotate(x, rotations(positions, 8)), expected, atol=1e-5, rtol=1e-5)


def test_rows_of_a_table_can_be_told_apart_from_the_first_step():
    torch.manual_seed(0)
    rows = table(40, 8)
    distances = torch.cdist(rows.detach(), rows.detach())
    assert rows.requires_grad and distances[~torch.eye(40, dtype=torch.bool)].min() > 0.3
