"""Linear layers of low rank plus a sparse support: what they compute, learn, and leave in a checkpoint."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from mmpt.config import parse_config
from mmpt.errors import CheckpointError, ConfigError
from mmpt.model.backbone import build_backbone
from mmpt.model.config import BackboneConfig, KernelsConfig
from mmpt.model.factors import FILE, restore_layers, split_weights
from mmpt.model.forward import check_head
from mmpt.model.fused import use_kernels
from mmpt.model.leak import leak_check
from mmpt.model.linears._sltrain import SparseLowRank

CONFIG = {"model_type": "qwen2", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
          "num_key_value_heads": 1}  # fmt: skip
IDS = torch.arange(11).unsqueeze(0)


def model(seed=0, **linear):
    content = {"config": CONFIG, "linear": {"kind": "sltrain", "rank": 4, "alpha": 8, "share": 0.25, **linear}}
    return build_backbone(parse_config(content, BackboneConfig, "test"), 30, seed=seed)


def layers(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, SparseLowRank)}


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS, use_cache=False).logits


def by_hand(layer: SparseLowRank) -> torch.Tensor:
    """W entry by entry."""
    weight = layer.scale * (layer.b @ layer.a)
    for row in range(layer.out_features):
        for place in range(int(layer.starts[row]), int(layer.starts[row + 1])):
            weight[row, layer.columns[place]] += layer.values[place]
    return weight


def trained(model):
    optimizer, losses = torch.optim.Adam(model.parameters(), 0.02), []
    for _ in range(15):
        loss = torch.nn.functional.cross_entropy(model(input_ids=IDS, use_cache=False).logits[0, :-1], IDS[0, 1:].flip(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_every_linear_layer_but_the_head_is_replaced_and_the_seed_decides_all():
    found = layers(model())
    assert len(found) == 14 and not any("lm_head" in name for name in found)
    for layer in found.values():
        rows, width = layer.out_features, layer.in_features
        assert torch.equal(layer.starts.long().diff(), torch.full((rows,), round(0.25 * width)))
        assert not layer.b.any() and layer.a.abs().max() <= width**-0.5 and layer.scale == 2.0
    first, second, other = (model(seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    name = next(name for name in first if name.endswith("columns"))
    assert not torch.equal(first[name], other[name])
    supports = [layer.columns for layer in found.values() if layer.in_features == 16 and layer.out_features == 16]
    assert not torch.equal(supports[0], supports[1])


def test_it_learns_and_is_saved_as_plain_matrices_with_the_factors_beside(tmp_path):
    made = model()
    losses = trained(made.train())
    assert losses[-1] < losses[0] - 0.5
    assert all(
        parameter.grad is not None and parameter.grad.any() for layer in layers(made).values() for parameter in layer.parameters()
    )
    wanted = logits(made)
    check_head(made)
    assert leak_check(made).others == 0.0
    tensors = {name: value.detach().clone() for name, value in made.state_dict().items()}
    plain = split_weights(made, tensors, tmp_path)
    made.save_pretrained(tmp_path / "backbone", state_dict=plain)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "backbone", attn_implementation="eager")
    assert (logits(opened) - wanted).abs().max() <= 1e-5
    for name, layer in layers(made).items():
        assert torch.allclose(opened.get_submodule(name).weight, by_hand(layer), atol=1e-6), name
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "backbone", attn_implementation="eager")
    restore_layers(again, tmp_path)
    assert all(torch.equal(value, tensors[name]) for name, value in again.state_dict().items())
    linear = next(iter(layers(made).values())).settings.model_dump(mode="json")
    config = parse_config({"path": str(tmp_path / "backbone"), "linear": linear}, BackboneConfig, "test")
    assert layers(build_backbone(config, 30, 0)).keys() == layers(made).keys()
    (tmp_path / FILE).write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        build_backbone(config, 30, 0)


def test_weights_of_another_model_have_no_factors(tmp_path):
    build_backbone(BackboneConfig(config=CONFIG), 30, 0).save_pretrained(tmp_path / "backbone")
    with pytest.raises(ConfigError, match="backbone.linear: sltrain trains from scratch"):
        build_backbone(parse_config({"path": str(tmp_path / "backbone"), "linear": "sltrain"}, BackboneConfig, "test"), 30, 0)
    assert split_weights(build_backbone(BackboneConfig(config=CONFIG), 30, 0), {"a": IDS}, tmp_path) == {"a": IDS}
    dense = build_backbone(parse_config({"config": CONFIG, "linear": "dense"}, BackboneConfig, "test"), 30, 0)
    assert not layers(dense)


def test_fused_kernels_go_with_it():
    made = model()
    trained(made.train())
    wanted = logits(made)
    assert use_kernels(made, KernelsConfig(norm="torch", rope="torch", swiglu="torch"), torch.device("cpu"))["swiglu"] == 2
    assert (logits(made) - wanted).abs().max() <= 1e-5


def test_under_autocast_products_are_taken_in_bfloat16():
    layer = next(iter(layers(model()).values()))
    x = torch.randn(3, layer.in_features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), layer(x), rtol=0.05, atol=0.05)
    found.float().sum().backward()
    assert layer.values.grad.dtype == torch.float32 and layer.values.grad.any()
