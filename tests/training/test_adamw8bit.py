"""AdamW with moments of eight bits: each update is AdamW's from the moments that were kept, and what is kept is next to them."""

import pytest
import torch
from torch import nn

from mmpt.training.engine import parameter_groups
from mmpt.training.optimizers.adamw8bit import BLOCK, AdamW8bit

bitsandbytes = pytest.importorskip("bitsandbytes.functional")
RATE, BETAS, DECAY = 0.02, (0.8, 0.9), 0.5


def levels(signed: bool) -> torch.Tensor:
    return bitsandbytes.create_dynamic_map(signed=signed).double()


def moments(state: dict, name: str) -> torch.Tensor:
    """What the codes and scales of a state say, float64 and flat, by their definition."""
    of = levels(name == "exp_avg")[state[f"{name}_codes"].flatten().long()]
    return of * state[f"{name}_scales"].double().repeat_interleave(BLOCK)[: len(of)]


@pytest.mark.parametrize("shape", [(80, 64), (70, 61)])
def test_an_update_is_adamws_from_what_was_kept(shape):
    layer = nn.Linear(shape[1], shape[0], bias=False)
    settings = AdamW8bit(learning_rate=RATE, betas=BETAS, weight_decay=DECAY)
    optimizer = settings.build(parameter_groups(layer, settings))
    weight = layer.weight
    draw = torch.Generator().manual_seed(0)
    kept = [torch.zeros(weight.numel(), dtype=torch.float64)] * 2
    for step in range(1, 5):
        before = weight.detach().double().flatten()
        weight.grad = torch.randn(shape, generator=draw) * 10.0 ** torch.randint(-3, 2, shape, generator=draw)
        slope = weight.grad.double().flatten()
        optimizer.step()
        first, second = BETAS[0] * kept[0] + (1 - BETAS[0]) * slope, BETAS[1] * kept[1] + (1 - BETAS[1]) * slope**2
        size = (second / (1 - BETAS[1] ** step)).sqrt() + 1e-8
        wanted = before * (1 - RATE * DECAY) - RATE * first / (1 - BETAS[0] ** step) / size
        assert torch.allclose(weight.detach().double().flatten(), wanted, atol=1e-5)
        state = optimizer.state[weight]
        kept = [moments(state, "exp_avg"), moments(state, "exp_avg_sq")]
        for name, found, exact in zip(("exp_avg", "exp_avg_sq"), kept, (first, second), strict=True):
            scale = state[f"{name}_scales"].double().repeat_interleave(BLOCK)[: len(exact)]
            nearest = (exact[:, None] / scale[:, None] - levels(name == "exp_avg")).abs().min(-1).values
            assert ((found - exact).abs() / scale <= nearest + 1e-3).all()
            assert torch.allclose(scale[::BLOCK], torch.stack([part.abs().max() for part in exact.split(BLOCK)]), rtol=1e-5)


def test_tables_and_small_weights_keep_adamws_bits():
    model = nn.Sequential(nn.Embedding(100, 64), nn.Linear(64, 80), nn.LayerNorm(80))
    settings = AdamW8bit(learning_rate=RATE)
    optimizer = settings.build(parameter_groups(model, settings))
    model(torch.arange(10)).square().sum().backward()
    optimizer.step()
    dtypes = {name: {value.dtype for value in optimizer.state[one].values()} for name, one in model.named_parameters()}
    assert torch.uint8 in dtypes["1.weight"] and all(of == {torch.float32} for name, of in dtypes.items() if name != "1.weight")
