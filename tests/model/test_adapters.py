"""Adapters on a frozen backbone: identity at the start, what is trained, round trips."""

import pytest
import torch
from thorough import thorough

from mmpt.config import parse_config
from mmpt.errors import CheckpointError, ConfigError
from mmpt.model.adaptation import add_adapter, load_adapter, merge_adapter, save_adapter
from mmpt.model.adapters import Adapter
from mmpt.model.adapters.lora import Lora
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.leak import leak_check
from mmpt.training.config import TrainingConfig
from mmpt.training.parts import part_of

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
    model = add_adapter(base(), Lora(rank=2, alpha=8), seed=1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(len(name)))
    return model


def test_a_new_adapter_changes_nothing_and_only_it_is_trained():
    model = add_adapter(base(), Lora(rank=2), seed=1)
    assert torch.equal(logits(model), logits(base()))
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert {name.split(".")[-3] for name in trained} == {"lora_A", "lora_B"}
    other, same = (add_adapter(base(), Lora(rank=2), seed=seed).state_dict() for seed in (2, 1))
    first = next(name for name in other if "lora_A" in name)
    assert torch.equal(model.state_dict()[first], same[first]) and not torch.equal(model.state_dict()[first], other[first])


def test_save_load_and_merge_keep_the_function(trained, tmp_path):
    wanted = logits(trained)
    assert (wanted - logits(base())).abs().max() > 1e-3
    save_adapter(trained, None, tmp_path / "adapter")
    loaded = load_adapter(base(), tmp_path / "adapter")
    assert torch.equal(logits(loaded), wanted)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert leak_check(loaded).others == 0.0
    merged = merge_adapter(loaded)
    assert type(merged) is type(base()) and (logits(merged) - wanted).abs().max() <= 1e-5
    assert set(merged.state_dict()) == set(base().state_dict())


@pytest.mark.parametrize("targets", [["lm_head"], ["embed_tokens"], ["no_such_layer"]])
def test_targets_that_cannot_be_adapted(targets):
    with pytest.raises(ConfigError, match="adapter.targets"):
        add_adapter(base(), Lora(targets=targets), seed=0)


def test_adapters_of_another_shape_or_missing(trained, tmp_path):
    save_adapter(trained, None, tmp_path / "adapter")
    wider = build_backbone(BackboneConfig(config={**CONFIG, "hidden_size": 32}), 30, seed=0)
    with pytest.raises(CheckpointError, match="do not fit"):
        load_adapter(wider, tmp_path / "adapter")
    with pytest.raises(CheckpointError, match="adapter_model.safetensors is missing"):
        load_adapter(base(), tmp_path)


LLAMA = {**CONFIG, "model_type": "llama"}
SMALL = {
    "lora": {"rank": 4, "alpha": 8}, "ia3": {}, "vera": {"rank": 8}, "pvera": {"rank": 8}, "randlora": {"rank": 4, "alpha": 80},
    "loha": {"rank": 4, "alpha": 4}, "lokr": {"rank": 4, "alpha": 4}, "oft": {"block_size": 8}, "boft": {"block_size": 4},
    "hra": {"reflections": 4}, "shira": {"rank": 4}, "miss": {"rank": 4}, "delora": {"rank": 4}, "gralora": {"rank": 4},
    "hira": {"rank": 4}, "peanut": {"rank": 4, "depth": 2}, "deft": {"rank": 4}, "ln_tuning": {}, "glora": {"rank": 4},
    "fourierft": {"coefficients": 8}, "waveft": {"coefficients": 8}, "supertuning": {"share": 0.1}, "c3a": {"block_size": 8},
}  # fmt: skip


def trained_for(model, steps=15):
    """The losses of `steps` steps of Adam on one row."""
    learned, losses = [parameter for parameter in model.parameters() if parameter.requires_grad], []
    optimizer = torch.optim.Adam(learned, 0.02)
    model.train()
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(model(input_ids=IDS, use_cache=False).logits[0, :-1], IDS[0, 1:].flip(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(parameter.grad is not None for parameter in learned)
    return losses


def test_every_adapter_stands_in_the_table_above():
    assert sorted(SMALL) == Adapter.names()


@pytest.mark.parametrize("config", [CONFIG, *thorough(LLAMA)], ids=["qwen3", "llama"])
@pytest.mark.parametrize("kind", SMALL)
def test_each_starts_as_the_identity_learns_and_keeps_its_function_saved_loaded_and_merged(kind, config, tmp_path):
    plain = build_backbone(BackboneConfig(config=config), 30, seed=0)
    before, names = logits(plain), set(plain.state_dict())
    model = add_adapter(plain, Adapter.member(kind)(**SMALL[kind]), seed=1)
    assert (logits(model) - before).abs().max() <= 1e-6
    learned = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert learned and {part_of(name) for name, _ in learned} == {"adapter"}
    losses = trained_for(model)
    assert losses[-1] < losses[0] - 0.003
    wanted = logits(model)
    assert (wanted - before).abs().max() > 0.01
    # What a checkpoint holds: the trained weights alone; the rest is made again, whatever the random state is by then.
    save_adapter(model, {name: parameter.detach().clone() for name, parameter in learned}, tmp_path / "adapter")
    torch.manual_seed(77)
    loaded = load_adapter(build_backbone(BackboneConfig(config=config), 30, seed=0), tmp_path / "adapter", trainable=True)
    assert (logits(loaded) - wanted).abs().max() <= 1e-6
    again = {name: parameter.shape for name, parameter in loaded.named_parameters() if parameter.requires_grad}
    assert again == {name: parameter.shape for name, parameter in learned}
    assert leak_check(loaded).others <= 1e-6
    merged = merge_adapter(loaded)
    assert (logits(merged) - wanted).abs().max() <= 1e-5 and set(merged.state_dict()) == names


@pytest.mark.parametrize("kind", SMALL)
def test_the_seed_alone_decides_where_an_adapter_starts(kind):
    adapter = Adapter.member(kind)(**SMALL[kind])
    torch.manual_seed(5)
    first = add_adapter(base(), adapter, seed=1).state_dict()
    torch.manual_seed(6)
    second = add_adapter(base(), adapter, seed=1).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_recipe_names_an_adapter_and_its_settings():
    content = {"output": "x", "data": [{"path": "y"}], "from": "z", "steps": 1}
    content["loader"] = {"pack_tokens": 8, "packs_per_step": 1}
    content["optimizer"] = {"learning_rate": 0.1}

    def adapter(value):
        return parse_config({**content, "adapter": value}, TrainingConfig, "test").adapter

    assert adapter({"rank": 4}) == Lora(rank=4) and adapter("ia3").kind == "ia3"
    with pytest.raises(ConfigError, match="adapter.rank: unknown key"):
        adapter({"kind": "ia3", "rank": 4})
    with pytest.raises(ConfigError, match="no adapter 'prefix'"):
        adapter("prefix")


def test_sizes_that_a_layer_does_not_divide_into_are_told():
    with pytest.raises(ConfigError, match="adapter.targets"):
        add_adapter(base(), Adapter.member("c3a")(block_size=7), seed=0)
