"""The balancing loss of mixtures of experts, against transformers' own loss; what it counts over packs is in tests/training."""

import sys

import numpy as np
import pytest
import torch
from losses import weighted_loss

from mmpt.data.loading.packing import pack
from mmpt.data.shards.tokens import TokenDocument
from mmpt.errors import ConfigError
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.forward import check_head
from mmpt.model.leak import require_no_leak
from mmpt.vocabulary import Vocabulary

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
VOCABULARY = Vocabulary(193, "letters", image_codes=0, codes_per_image=0, speech_codes=0, speech_rate=0.0)
EXPERTS = {
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": {"num_experts": 4, "moe_intermediate_size": 16, "head_dim": 8},
    "olmoe": {"num_experts": 4},
    "granitemoe": {"num_local_experts": 4, "logits_scaling": 4.0},
}
DEEPSEEK = {
    **SMALL, "num_key_value_heads": 4, "moe_intermediate_size": 16, "n_routed_experts": 8, "n_group": 2, "topk_group": 1,
    "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 8, "qk_head_dim": 16,
}  # fmt: skip


def build(kind: str, seed: int = 0, **options):
    content = {"model_type": kind, **SMALL, **EXPERTS.get(kind, {}), "num_experts_per_tok": 2, **options}
    return build_backbone(BackboneConfig(config=content), VOCABULARY.size, seed)


def document(length: int) -> TokenDocument:
    return TokenDocument(f"{length}", "test", np.arange(length) * 7 % VOCABULARY.size, None)


@pytest.mark.parametrize("kind", EXPERTS)
def test_it_is_what_transformers_adds_to_the_loss(kind):
    model = build(kind, output_router_logits=True, router_aux_loss_coef=0.5)
    batch = pack([document(20)])
    parts = weighted_loss(model, batch, torch.ones(4), VOCABULARY)
    theirs = model(input_ids=batch.input_ids, labels=batch.input_ids, output_router_logits=True)
    ours = parts["next_token"].total / parts["next_token"].count + parts["router_balance"].total / 20
    assert (
        parts["router_balance"].total.item() / 20 == pytest.approx(0.5 * theirs.aux_loss.item(), rel=1e-5)
        and theirs.aux_loss > 0.9
    )
    assert ours.item() == pytest.approx(theirs.loss.item(), rel=1e-5)
    slopes = [torch.autograd.grad(loss, model.model.layers[0].parameters(), allow_unused=True) for loss in (ours, theirs.loss)]
    for one, other in zip(*slopes, strict=True):
        assert (one is None) == (other is None) and (one is None or torch.allclose(one, other, rtol=1e-3, atol=1e-6))


def test_it_is_left_out_where_the_configuration_does_not_ask(kind="mixtral"):
    assert "router_balance" not in weighted_loss(build(kind), pack([document(20)]), torch.ones(4), VOCABULARY)


def test_layers_that_are_computed_again_give_the_same_gradient():
    found = []
    for again in (False, True):
        model = build("mixtral", output_router_logits=True, router_aux_loss_coef=0.5).train()
        if again:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        parts = weighted_loss(model, pack([document(20), document(9)]), torch.ones(4), VOCABULARY)
        (parts["next_token"].total + parts["router_balance"].total).backward()
        found.append({name: weight.grad for name, weight in model.named_parameters()})
    for name, slope in found[0].items():
        assert torch.allclose(found[1][name], slope, rtol=1e-4, atol=1e-6), name


def test_a_model_that_has_none_but_asks_for_it_is_refused(monkeypatch):
    model = build("mixtral", output_router_logits=True)
    monkeypatch.delattr(sys.modules[type(model).__module__], "load_balancing_loss_func")
    with pytest.raises(ConfigError, match="output_router_logits"):
        check_head(model)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", [*EXPERTS, "deepseek_v3"])
def test_rounding_by_groups_of_tokens_is_no_leak(kind, seed):
    model = build(kind, seed, **(DEEPSEEK if kind == "deepseek_v3" else {}))
    check_head(model)
    require_no_leak(model)
