"""Inner adaptors: the frozen decoder bit for bit where they are off or new, learning where they are on, and saved alone."""

import pytest
import torch

from mmpt.errors import CheckpointError, ConfigError
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.inner_adaptors import InnerAdaptors
from mmpt.model.leak import leak_check

CONFIG = {"model_type": "qwen3", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2,
          "num_key_value_heads": 1, "head_dim": 8}  # fmt: skip
IDS = torch.arange(11).unsqueeze(0)


def base():
    return build_backbone(BackboneConfig(config=CONFIG), 30, seed=0)


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS, use_cache=False).logits


def trained(model, places=(0, 2)):
    adaptors = InnerAdaptors(model, places)
    optimizer = torch.optim.Adam(adaptors.parameters(), 0.02)
    losses = []
    for _ in range(20):
        output = model(input_ids=IDS, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(output[0, :-1], IDS[0, 1:].flip(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return adaptors, losses


def test_new_ones_change_nothing_and_learn_while_the_decoder_rests():
    model, plain = base(), logits(base())
    assert torch.equal(logits(base()), plain)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    InnerAdaptors(model, (1,)).remove()
    assert torch.equal(logits(model), plain)
    adaptors, losses = trained(model)
    assert losses[-1] < losses[0] - 0.1 and (logits(model) - plain).abs().max() > 0.1
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert set(model.state_dict()) == set(weights)
    with adaptors.switched_off():
        assert torch.equal(logits(model), plain)
    assert leak_check(model) == 0.0
    adaptors.remove()
    assert torch.equal(logits(model), plain)


def test_they_are_saved_alone_and_fit_only_their_decoder(tmp_path):
    model = base()
    adaptors, _ = trained(model)
    wanted = logits(model)
    adaptors.save(tmp_path / "adaptors")
    other = base()
    InnerAdaptors.load(other, tmp_path / "adaptors")
    assert torch.equal(logits(other), wanted)
    wider = build_backbone(BackboneConfig(config={**CONFIG, "hidden_size": 32}), 30, seed=0)
    with pytest.raises(CheckpointError, match="does not fit"):
        InnerAdaptors.load(wider, tmp_path / "adaptors")
    shallow = build_backbone(BackboneConfig(config={**CONFIG, "num_hidden_layers": 1}), 30, seed=0)
    with pytest.raises(CheckpointError, match="expected different ones from 0 to 0"):
        InnerAdaptors.load(shallow, tmp_path / "adaptors")


@pytest.mark.parametrize("places", [(), (3,), (-1,), (1, 1)])
def test_places_that_are_none(places):
    with pytest.raises(ConfigError, match="inner adaptors"):
        InnerAdaptors(base(), places)
