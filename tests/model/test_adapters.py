"""LoRA on a frozen backbone: identity at the start, what is trained, round trips."""

import pytest
import torch

from mmpt.errors import CheckpointError, ConfigError
from mmpt.model.adapters import AdapterConfig, add_adapter, load_adapter, merge_adapter, save_adapter
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.leak import leak_check

CONFIG = {"model_type": "qwen3", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
          "num_key_value_heads": 1, "head_dim": 8}  # fmt: skip
IDS = torch.arange(9).unsqueeze(0)


def base():
    return build_backbone(BackboneConfig(config=CONFIG), 30, seed=0)


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS, use_cache=False).logits


@pytest.fixture
def trained():
    model = add_adapter(base(), AdapterConfig(rank=2, alpha=8), seed=1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(len(name)))
    return model


def test_a_new_adapter_changes_nothing_and_only_it_is_trained():
    model = add_adapter(base(), AdapterConfig(rank=2), seed=1)
    assert torch.equal(logits(model), logits(base()))
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert {name.split(".")[-3] for name in trained} == {"lora_A", "lora_B"}
    other, same = (add_adapter(base(), AdapterConfig(rank=2), seed=seed).state_dict() for seed in (2, 1))
    first = next(name for name in other if "lora_A" in name)
    assert torch.equal(model.state_dict()[first], same[first]) and not torch.equal(model.state_dict()[first], other[first])


def test_save_load_and_merge_keep_the_function(trained, tmp_path):
    wanted = logits(trained)
    assert (wanted - logits(base())).abs().max() > 1e-3
    save_adapter(trained, None, tmp_path / "adapter")
    loaded = load_adapter(base(), tmp_path / "adapter")
    assert torch.equal(logits(loaded), wanted)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert leak_check(loaded) == 0.0
    merged = merge_adapter(loaded)
    assert type(merged) is type(base()) and (logits(merged) - wanted).abs().max() <= 1e-5
    assert set(merged.state_dict()) == set(base().state_dict())


@pytest.mark.parametrize("targets", [["lm_head"], ["embed_tokens"], ["no_such_layer"]])
def test_targets_that_cannot_be_adapted(targets):
    with pytest.raises(ConfigError, match="adapter.targets"):
        add_adapter(base(), AdapterConfig(targets=targets), seed=0)


def test_adapters_of_another_shape_or_missing(trained, tmp_path):
    save_adapter(trained, None, tmp_path / "adapter")
    wider = build_backbone(BackboneConfig(config={**CONFIG, "hidden_size": 32}), 30, seed=0)
    with pytest.raises(CheckpointError, match="do not fit"):
        load_adapter(wider, tmp_path / "adapter")
    with pytest.raises(CheckpointError, match="adapter_model.safetensors is missing"):
        load_adapter(base(), tmp_path)
