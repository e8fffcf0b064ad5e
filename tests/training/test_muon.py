"""Muon: against torch's own, on matrices with known singular values, and beside AdamW in one optimizer."""

import pytest
import torch
from torch import nn

from mmpt.training.config import TrainerConfig
from mmpt.training.engine import parameter_groups
from mmpt.training.optimizers import _muon as muon
from mmpt.training.optimizers._muon import muon_parameters, orthogonalized
from mmpt.training.optimizers.muon import Muon


@pytest.mark.parametrize(("bfloat16", "tolerance"), [(False, 1e-4), (True, 0.05)])
@pytest.mark.parametrize("shape", [(16, 48), (48, 16), (32, 32)])
def test_singular_values_become_about_equal_and_singular_vectors_stay(shape, bfloat16, tolerance, monkeypatch):
    """As on devices with and without products of bfloat16."""
    monkeypatch.setattr(muon, "multiplies_bfloat16", lambda device: bfloat16)
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.logspace(0, -1, min(shape))
    found = orthogonalized(u * values @ v)
    inside = u.T @ found @ v.T
    assert ((inside.diag() > 0.6) & (inside.diag() < 1.25)).all()
    assert (inside - inside.diag().diag()).abs().max() < tolerance


@pytest.mark.parametrize("shape", [(24, 24), (24, 30), (24, 40), (24, 300), (300, 24), (1, 50)])
def test_elongated_matrices_take_the_same_steps(shape, monkeypatch):
    """Against the five steps in float64, on singular values over four decades, the smallest of which the steps only lift."""
    monkeypatch.setattr(muon, "multiplies_bfloat16", lambda device: False)
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape, dtype=torch.float64), full_matrices=False)
    matrix = u * torch.logspace(0, -4, min(shape), dtype=torch.float64) @ v
    expected = matrix / matrix.norm()
    for _ in range(5):
        gram = expected @ expected.T
        expected = 3.4445 * expected - 4.7750 * gram @ expected + 2.0315 * gram @ gram @ expected
    assert (orthogonalized(matrix.float()) - expected).norm() < 1e-3 * expected.norm()


def test_three_updates_of_matrices_are_those_of_torch_and_of_the_rest_those_of_adamw():
    def model() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Embedding(60, 24), nn.Linear(24, 40), nn.GELU(), nn.LayerNorm(40), nn.Linear(40, 8, bias=False))

    ours, other = model(), model()
    options = {"lr": 0.02, "betas": (0.9, 0.95)}
    settings = Muon(learning_rate=0.02, betas=(0.9, 0.95), weight_decay=0.1)
    optimizer = settings.build(parameter_groups(ours, settings))
    matrices = [other[1].weight, other[4].weight]
    rest = [other[0].weight, other[1].bias, other[3].weight, other[3].bias]
    references = (
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, **options, weight_decay=0.0),
    )
    start = [parameter.detach().clone() for parameter in other.parameters()]
    for step in range(3):
        ids = torch.randint(60, (200,), generator=torch.Generator().manual_seed(step))
        for network in (ours, other):
            network.zero_grad()
            network(ids).square().sum().backward()
        optimizer.step()
        for reference in references:
            reference.step()
        for (name, found), expected, before in zip(ours.named_parameters(), other.parameters(), start, strict=True):
            away = (found - expected).norm() / (expected - before).norm()
            # torch's runs in bfloat16, and from the second step on all gradients tell of it
            assert away < (0.02 if step or name in ("1.weight", "4.weight") else 1e-5), name


def test_it_takes_linear_layers_and_convolutions_but_neither_head_nor_embeddings_nor_depthwise_ones():
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "qwen3", vocab_size=20, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, head_dim=8
    )
    decoder = AutoModelForCausalLM.from_config(config)
    chosen = muon_parameters(decoder)
    names = {name for name, parameter in decoder.named_parameters() if id(parameter) in chosen}
    assert len(names) == 7 and all(".layers.0." in name for name in names)
    stem = nn.Sequential(nn.Conv2d(3, 8, 4), nn.Conv1d(8, 8, 3, groups=8), nn.Linear(8, 2))
    assert muon_parameters(stem) == {id(stem[0].weight), id(stem[2].weight)}


def test_sharded_matrices_are_refused():
    with pytest.raises(ValueError, match="muon needs whole matrices, ZeRO stage 1"):
        TrainerConfig(steps=1, optimizer={"kind": "muon", "learning_rate": 0.1}, deepspeed={"zero_optimization": {"stage": 1}})
