"""Matrices at rest in four bits, by the paper's definition, and adapters that learn on them."""

import numpy as np
import pytest
import torch
from torch import nn

from mmpt.errors import ConfigError
from mmpt.model.adaptation import add_adapter
from mmpt.model.adapters.boft import Boft
from mmpt.model.adapters.ia3 import Ia3
from mmpt.model.adapters.lora import Lora
from mmpt.model.adapters.vera import Vera
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.four_bits import BYTES, FourBitLinear, hold_in_four_bits

pytest.importorskip("bitsandbytes")
CONFIG = {"model_type": "qwen3", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2, "head_dim": 16}  # fmt: skip


def levels() -> np.ndarray:
    """The sixteen values of 4-bit NormalFloat, by equation 4 and appendix E of the paper: quantiles of a normal distribution,
    eight above zero, seven below, scaled to one."""
    from scipy.stats import norm

    end = 0.5 * (1 / 32 + 1 / 30)
    above = norm.ppf(np.linspace(1 - end, 0.5, 9)[:-1])
    below = -norm.ppf(np.linspace(1 - end, 0.5, 8)[:-1])
    found = np.sort(np.concatenate([above, [0.0], below]))
    return found / found.max()


@pytest.fixture(autouse=True)
def not_compiled():
    """On a CPU bitsandbytes has torch compile what it does, which takes far longer than to do it."""
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.mark.parametrize("shape", [(96, 50), (64, 7), (48, 576)])
def test_a_weight_is_the_nearest_level_times_the_largest_of_its_64(shape):
    plain = nn.Linear(*shape, bias=False)
    held = FourBitLinear(plain)
    weights = plain.weight.detach().double().numpy().reshape(-1, 64)
    scales = np.abs(weights).max(axis=1, keepdims=True)
    nearest = levels()[np.abs(weights[..., None] / scales[..., None] - levels()).argmin(-1)]
    found = held.weight().double().numpy().reshape(-1, 64)
    # The scales themselves are kept in eight bits: up to a hundredth. Half-way between two levels either will do.
    assert np.abs(found[..., None] / scales[..., None] - levels()).min(-1).max() <= 0.01
    assert (np.abs(found - weights) <= np.abs(nearest * scales - weights) + 0.01 * scales).all()
    assert np.abs(found - weights).max() > 0.05 * scales.max()  # four bits do cost something
    assert held.packed.numel() == shape[0] * shape[1] / 2


def test_a_product_is_that_with_the_whole_matrix_and_its_input_gets_its_gradient():
    plain = nn.Linear(47, 41)
    held = FourBitLinear(plain)
    x = torch.randn(3, 5, 47, requires_grad=True)
    wanted = x @ held.weight().T + plain.bias
    found = held(x)
    assert torch.allclose(found, wanted, atol=1e-5)
    weigh = torch.randn_like(found)
    (gradient,) = torch.autograd.grad((wanted * weigh).sum(), x)
    (other,) = torch.autograd.grad((held(x) * weigh).sum(), x)
    assert torch.allclose(gradient, other, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert held(x).dtype == torch.bfloat16


@pytest.mark.parametrize("adapter", [Lora(rank=2), Ia3(), Vera(rank=4)], ids=lambda one: one.kind)
def test_an_adapter_computes_and_learns_on_four_bits_what_it_does_on_their_matrices(adapter):
    models = []
    for packed in (True, False):
        model = build_backbone(BackboneConfig(config=CONFIG), 60, seed=1).eval()
        if not packed:  # the same matrices, as plain ones
            for layer in model.model.layers:
                for one in layer.modules():
                    if isinstance(one, nn.Linear):
                        one.weight.data = FourBitLinear(one).weight()
        model = add_adapter(model, adapter, seed=3)
        if packed:
            hold_in_four_bits(model)
            assert not [one for one in model.get_base_model().model.layers.modules() if hasattr(one, "base_layer")
                        and type(one.base_layer) is nn.Linear]  # fmt: skip
        models.append(model)
    ids = torch.arange(12)[None]
    found, wanted = (model(input_ids=ids, use_cache=False).logits for model in models)
    assert torch.allclose(found, wanted, atol=1e-5)
    for logits in (found, wanted):
        logits.square().sum().backward()
    gradients = [{name: one.grad for name, one in model.named_parameters() if one.requires_grad} for model in models]
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-4), name
    assert any(gradient.abs().max() > 0 for gradient in gradients[0].values())


def test_an_adapter_that_reads_the_matrices_is_refused():
    model = add_adapter(build_backbone(BackboneConfig(config=CONFIG), 60, seed=1), Boft(block_size=4), seed=3)
    with pytest.raises(ConfigError, match="adapter.base: nf4 goes with ia3, lora, vera"):
        hold_in_four_bits(model)


def test_what_a_weight_takes_is_what_is_counted():
    held = FourBitLinear(nn.Linear(1024, 1024, bias=False))
    scales = held._scales
    parts = [held.packed, scales.absmax, scales.state2.absmax]
    assert sum(part.nbytes for part in parts) == BYTES * held.numbers
