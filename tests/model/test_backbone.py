"""Backbones from a configuration and from weights: purity, growth, refusals."""

import pytest
import torch

from mmpt.config import parse_config
from mmpt.errors import ConfigError
from mmpt.model.backbone import BackboneConfig, build_backbone

CONFIG = {"model_type": "qwen3", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
          "num_key_value_heads": 1, "head_dim": 8}  # fmt: skip


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def saved(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbone")
    config = BackboneConfig(config={**CONFIG, "tie_word_embeddings": request.param})
    build_backbone(config, 40, seed=1).save_pretrained(folder)
    return folder


def test_initialisation_is_a_pure_function_of_the_seed():
    config = BackboneConfig(config=CONFIG)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one = build_backbone(config, 30, seed=3).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(5)
    other, third = build_backbone(config, 30, seed=3).state_dict(), build_backbone(config, 30, seed=4).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["model.embed_tokens.weight"], third["model.embed_tokens.weight"])


def test_growth_keeps_old_rows_and_starts_new_ones_at_their_mean(saved):
    old = build_backbone(BackboneConfig(path=str(saved)), 40, seed=0)
    new = build_backbone(BackboneConfig(path=str(saved)), 64, seed=0)
    again = build_backbone(BackboneConfig(path=str(saved)), 64, seed=0)
    for table in ("get_input_embeddings", "get_output_embeddings"):
        before, after = getattr(old, table)().weight.detach(), getattr(new, table)().weight.detach()
        assert after.shape == (64, 16) and torch.equal(after[:40], before)
        spread = (after[40:] - before.mean(dim=0)).std() / before.std()
        assert 0.01 < spread < 0.04
        assert len(torch.unique(after[40:], dim=0)) == 24
        assert torch.equal(after, getattr(again, table)().weight)
    tied = old.config.tie_word_embeddings
    assert (new.get_input_embeddings().weight is new.get_output_embeddings().weight) == tied
    assert new.config.vocab_size == 64


def test_growth_by_constrained_word2vec_reads_the_sequences_it_is_given(saved):
    config = BackboneConfig(path=str(saved), growth="constrained_word2vec")
    sequences = [[old, 40 + old % 4] * 6 for old in range(40)]
    new = build_backbone(config, 44, seed=0, sequences=iter(sequences))
    for table in ("get_input_embeddings", "get_output_embeddings"):
        rows = getattr(new, table)().weight.detach()
        own = torch.stack([rows[:40][number::4].mean(dim=0) for number in range(4)])
        nearest = torch.cdist(rows[40:] - rows[:40].mean(dim=0), own - own.mean(dim=0)).argmin(dim=1)
        assert torch.equal(nearest, torch.arange(4))
    with pytest.raises(ConfigError, match="backbone.growth: no sequence"):
        build_backbone(config, 44, seed=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "exactly one"),
        ({"path": "x", "config": CONFIG}, "exactly one"),
        ({"config": {"hidden_size": 3}}, "model_type"),
        ({"config": {**CONFIG, "vocab_size": 3}}, "vocab_size"),
        ({"paht": "x"}, "unknown key"),
    ],
)
def test_configuration_mistakes(content, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(content, BackboneConfig, "test")


@pytest.mark.parametrize("change", [{"model_type": "no_such_model"}, {"hiden_size": 3}, {"num_attention_heads": "four"}])
def test_configurations_that_build_no_model(change):
    with pytest.raises(ConfigError, match="backbone.config"):
        build_backbone(BackboneConfig(config={**CONFIG, **change}), 30, seed=0)


def test_folder_without_a_model(tmp_path):
    with pytest.raises(ConfigError, match=str(tmp_path)):
        build_backbone(BackboneConfig(path=str(tmp_path)), 30, seed=0)
