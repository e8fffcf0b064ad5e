"""Operations of a step, against PyTorch's own counter."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from losses import weighted_loss
from torch.utils.flop_counter import FlopCounterMode

from mmpt.config import Schema, parse_config
from mmpt.data.loading.packing import pack
from mmpt.data.shards.tokens import TokenDocument
from mmpt.model.adaptation import add_adapter
from mmpt.model.adapters import Adapter
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.forward import head_tables
from mmpt.model.new_rows import split_rows
from mmpt.training.flops import peak_flops, step_cost

sys.path.insert(0, str(Path(__file__).parent))
import ranks  # noqa: E402

SMALL = {"hidden_size": 48, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1}
KINDS = {
    "mixtral": {**SMALL, "num_local_experts": 4, "num_experts_per_tok": 2},
    "deepseek_v3": {
        **SMALL, "num_key_value_heads": 2, "moe_intermediate_size": 16, "n_routed_experts": 8, "n_shared_experts": 1,
        "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "q_lora_rank": 16,
        "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16, "qk_head_dim": 16,
    },
    "gpt2": {"n_embd": 48, "n_layer": 3, "n_head": 2, "n_positions": 64, "attn_pdrop": 0.0},
}  # fmt: skip
CONFIG = {**ranks.BACKBONE, "hidden_size": 48, "head_dim": 24, "num_hidden_layers": 3, "tie_word_embeddings": False}


def document(length: int) -> TokenDocument:
    ids = np.random.default_rng(length).choice(ranks.IDS, length)
    return TokenDocument(f"{length}", "test", ids, (np.arange(length) % 3 > 0).astype(np.float32))


@pytest.mark.parametrize("lengths", [(40,), (10, 3, 27)])
@pytest.mark.parametrize("frozen", [False, True])
def test_products_are_those_that_run(lengths, frozen):
    """Attention on a CPU runs whole within each document; everything else is what the counter sees."""
    model = build_backbone(BackboneConfig(config=CONFIG), ranks.VOCABULARY.size, seed=0)
    if frozen:
        (new, head) = split_rows(model, ranks.VOCABULARY.text_size)
        model.requires_grad_(False)
        new.requires_grad_(True), head.requires_grad_(True)
    model.set_attn_implementation("mmpt_packed")
    batch, cost = pack([document(length) for length in lengths]), step_cost(model)
    with FlopCounterMode(display=False) as counter:
        weighted_loss(model, batch, torch.ones(4), ranks.VOCABULARY)["next_token"].total.backward()
    counts = counter.get_flop_counts()["Global"]
    total, full = cost.of(batch)
    tokens, supervised = sum(lengths), int((batch.weights > 0).sum())
    tables = head_tables(model)
    # The counter does not know `addmm_`, which adds up the head's gradient, and what a second table gives to that of the states.
    unseen = sum(len(table) for table in tables if table.requires_grad) + sum(map(len, tables[1:]))
    products = sum(count for name, count in counts.items() if "attention" not in str(name)) + 2 * unseen * 48 * supervised
    assert products == pytest.approx(cost.token * tokens + cost.supervised * supervised)
    pairs = sum(length * (length + 1) / 2 for length in lengths)
    heads, layers = CONFIG["num_attention_heads"], CONFIG["num_hidden_layers"]
    assert total == pytest.approx(products + 12 * layers * heads * 24 * pairs)
    assert full == pytest.approx(products + 12 * layers * heads * 24 * tokens**2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_experts_that_ran_and_layers_of_any_class_are_counted(kind):
    model = build_backbone(BackboneConfig(config={"model_type": kind, **KINDS[kind]}), ranks.VOCABULARY.size, seed=0)
    if kind != "gpt2":
        model.set_experts_implementation("eager")  # the counter does not know products in groups
    batch, cost = pack([document(40)]), step_cost(model)
    with FlopCounterMode(display=False) as counter:
        weighted_loss(model, batch, torch.ones(4), ranks.VOCABULARY)["next_token"].total.backward()
    counts = counter.get_flop_counts()["Global"]
    supervised = int((batch.weights > 0).sum())
    products = sum(count for name, count in counts.items() if "attention" not in str(name))
    products += 2 * ranks.VOCABULARY.size * 48 * supervised  # the head's gradient, by `addmm_`
    assert products == pytest.approx(cost.token * 40 + cost.supervised * supervised, rel=0.01)  # RoPE's angles are products too


def test_devices_without_a_known_peak_have_none():
    assert peak_flops(torch.device("cpu")) is None


class Adapted(Schema):
    adapter: Adapter


SIZES = {"gralora": {"kind": "gralora", "rank": 4, "blocks": 2}, "c3a": {"kind": "c3a", "block_size": 32},
         "boft": {"kind": "boft", "block_size": 4, "factors": 1}, "waveft": {"kind": "waveft", "coefficients": 64},
         "oft": {"kind": "oft", "block_size": 8}, "miss": {"kind": "miss", "rank": 8}}  # fmt: skip


@pytest.mark.parametrize("kind", Adapter.names())
def test_every_adapter_of_a_decoder_without_experts_is_counted(kind):
    """Blocks of some are stacked into one weight, as those of experts are."""
    content = {**SMALL, "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    model = build_backbone(BackboneConfig(config={**content, "num_key_value_heads": 4}), 40, seed=0)
    plain = step_cost(model).token
    adapted = parse_config({"adapter": SIZES.get(kind, {"kind": kind})}, Adapted, "test").adapter
    cost = step_cost(add_adapter(model, adapted, seed=0)).token
    assert 2 / 3 * plain <= cost  # frozen weights take two products of the three
