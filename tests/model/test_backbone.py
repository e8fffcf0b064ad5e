"""Backbones from a configuration and from weights: purity, new rows, refusals."""

import pytest
import torch

from mmpt.config import parse_config
from mmpt.errors import ConfigError
from mmpt.model.adaptation import add_adapter
from mmpt.model.adapters.lora import Lora
from mmpt.model.backbone import BackboneConfig, build_backbone, load_backbone

CONFIG = {"model_type": "qwen3", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
          "num_key_value_heads": 1, "head_dim": 8}  # fmt: skip


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def saved(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbone")
    config = BackboneConfig(config={**CONFIG, "tie_word_embeddings": request.param})
    build_backbone(config, 40, seed=1).save_pretrained(folder)
    return folder


def padded(folder, text: int, rows: int):
    """A model with `rows` of which the tokenizer has `text`: the others were never trained."""
    model = build_backbone(BackboneConfig(config={**CONFIG, "tie_word_embeddings": False}), rows, seed=1)
    with torch.no_grad():
        for table in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
            table[text:] = 0
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("size", [27, 30, 64], ids=["within the padding", "all of it", "beyond"])
def test_rows_of_a_padded_table_start_like_any_other_new_ones(tmp_path, size):
    old = padded(tmp_path, 20, 30)
    new = build_backbone(BackboneConfig(path=str(tmp_path)), size, seed=0, text_size=20)
    for table in ("get_input_embeddings", "get_output_embeddings"):
        before, after = getattr(old, table)().weight.detach(), getattr(new, table)().weight.detach()
        assert after.shape == (size, 16) and torch.equal(after[:20], before[:20])
        assert after[20:].abs().sum(dim=1).min() > 0
        assert 0.01 < (after[20:] - before[:20].mean(dim=0)).std() / before[:20].std() < 0.04
    with pytest.raises(ConfigError, match="30 embedding rows, the text tokenizer has 31 ids"):
        build_backbone(BackboneConfig(path=str(tmp_path)), size, seed=0, text_size=31)


def test_keys_of_a_published_configuration_are_taken_and_typing_mistakes_are_not():
    published = {
        "architectures": ["Qwen3MoeForCausalLM"], "decoder_sparse_step": 1, "head_dim": 8, "hidden_act": "silu",
        "hidden_size": 32, "intermediate_size": 48, "max_window_layers": 48, "mlp_only_layers": [], "model_type": "qwen3_moe",
        "moe_intermediate_size": 16, "norm_topk_prob": True, "num_attention_heads": 2, "num_experts": 4, "num_experts_per_tok": 2,
        "num_hidden_layers": 1, "num_key_value_heads": 1, "output_router_logits": False, "rope_scaling": None,
        "rope_theta": 1e6, "router_aux_loss_coef": 0.001, "sliding_window": None, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_sliding_window": False,
    }  # fmt: skip
    model = build_backbone(BackboneConfig(config=published), 30, seed=0)
    layer = model.model.layers[0]
    assert layer.self_attn.head_dim == 8 and layer.mlp.experts.gate_up_proj.shape == (4, 32, 32)
    assert model.config.rope_parameters["rope_theta"] == 1e6 and model.dtype == torch.float32
    for wrong in ("hed_dim", "num_expert", "rope_thetta"):
        with pytest.raises(ConfigError, match=f"has no {wrong}$"):
            build_backbone(BackboneConfig(config={**published, wrong: 1}), 30, seed=0)


def test_adapters_and_pickled_weights_as_a_backbone_are_answered_with_what_to_do(saved, tmp_path):
    model = load_backbone(saved)
    add_adapter(model, Lora(rank=2), 0).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ConfigError, match=r"adapters of peft .*merge_and_unload"):
        load_backbone(tmp_path / "adapter")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_bytes((saved / "config.json").read_bytes())
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ConfigError, match=r"pickled \(pytorch_model\.bin\).*safetensors"):
        load_backbone(tmp_path / "pickled")


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


@pytest.mark.slow
def test_growth_by_constrained_word2vec_reads_the_sequences_it_is_given(saved):
    config = BackboneConfig(path=str(saved), row_init="constrained_word2vec")
    sequences = [[old, 40 + old % 4] * 6 for old in range(40)]
    new = build_backbone(config, 44, seed=0, sequences=iter(sequences))
    for table in ("get_input_embeddings", "get_output_embeddings"):
        rows = getattr(new, table)().weight.detach()
        own = torch.stack([rows[:40][number::4].mean(dim=0) for number in range(4)])
        nearest = torch.cdist(rows[40:] - rows[:40].mean(dim=0), own - own.mean(dim=0)).argmin(dim=1)
        assert torch.equal(nearest, torch.arange(4))
    with pytest.raises(ConfigError, match="backbone.row_init: no sequence"):
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
