"""New rows beside a frozen table: the same function, and only they learn."""

import pytest
import torch

from mmpt.errors import ConfigError
from mmpt.kernels.cross_entropy import weighted_linear_cross_entropy
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.forward import check_head, head_tables, hidden_states
from mmpt.model.leak import leak_check
from mmpt.model.new_rows import split_rows, table_size

TEXT, ALL = 23, 31
IDS = torch.tensor([[1, 25, 30, 7, 22, 23, 2, 2, 28]])
BASE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 8}


@pytest.fixture(params=["qwen3", "qwen3 tied", "gemma3_text"])
def model(request):
    kind, _, tied = request.param.partition(" ")
    options = {"tie_word_embeddings": bool(tied)} if kind == "qwen3" else {"query_pre_attn_scalar": 8}
    return build_backbone(
        BackboneConfig(config={"model_type": kind, **BASE, "num_key_value_heads": 1, **options}), ALL, seed=0
    ).eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


@pytest.mark.parametrize("kernel", ["torch", "triton"])
def test_split_tables_are_the_same_function(model, kernel):
    plain, names = logits(model), set(model.state_dict())
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    tables = split_rows(model, TEXT, kernel)
    assert len(tables) == 2 - tied and all(table.shape == (ALL - TEXT, 16) for table in tables)
    assert (logits(model) - plain).abs().max() <= 1e-6 and table_size(model) == ALL
    check_head(model)
    assert leak_check(model).others == 0.0
    assert {name.replace(".new", ".weight") for name in model.state_dict()} == names


def test_gradients_are_those_of_the_new_rows_of_one_table(model):
    def loss_of(model):
        hidden = hidden_states(model, IDS, torch.arange(9)[None], torch.tensor([0, 4, 9]))[0]
        return weighted_linear_cross_entropy(hidden[:-1], head_tables(model), IDS[0, 1:], torch.ones(8)).loss

    loss_of(model).backward()
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    wanted = [model.get_input_embeddings().weight.grad[TEXT:], model.get_output_embeddings().weight.grad[TEXT:]]
    tables = split_rows(model, TEXT)
    loss_of(model).backward()
    for table, slope in zip(tables, wanted[: 2 - tied], strict=True):
        torch.testing.assert_close(table.grad, slope, rtol=1e-4, atol=1e-6)
    assert model.get_input_embeddings().weight.grad is None and model.get_output_embeddings().weight.grad is None


def test_what_cannot_be_split(model):
    for rows in (0, ALL):
        with pytest.raises(ConfigError, match="expected some and not all"):
            split_rows(model, rows)
    split_rows(model, TEXT)
    with pytest.raises(ConfigError, match="expected plain tables"):
        split_rows(model, TEXT)
