"""Models whose weights stay in their files: to the bit those that transformers loads, with rows, tables and adapters put in."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mmpt.errors import ConfigError
from mmpt.model.adaptation import add_adapter, load_adapter, save_adapter
from mmpt.model.adapters.boft import Boft
from mmpt.model.adapters.ia3 import Ia3
from mmpt.model.adapters.loha import Loha
from mmpt.model.adapters.lokr import Lokr
from mmpt.model.adapters.lora import Lora
from mmpt.model.adapters.vera import Vera
from mmpt.model.backbone import BackboneConfig, build_backbone, load_backbone
from mmpt.model.forward import check_head
from mmpt.model.hollow import fill, first_layers, is_hollow
from mmpt.model.leak import require_no_leak
from mmpt.model.new_rows import fill_rows, split_rows

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import ranks  # noqa: E402

SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2, "num_key_value_heads": 1,
         "head_dim": 8, "tie_word_embeddings": False}  # fmt: skip
FAMILIES = {
    "qwen3": {},
    "llama": {"tie_word_embeddings": True},
    "gemma3_text": {"layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]},
    "gpt2": {"n_embd": 16, "n_layer": 3, "n_head": 2},
}


@pytest.fixture(params=FAMILIES)
def folder(request, tmp_path):
    content = FAMILIES[request.param]
    content = content if request.param == "gpt2" else {**SMALL, **content}
    built = build_backbone(BackboneConfig(config={"model_type": request.param, **content}), 30, seed=3)
    built.generation_config.eos_token_id = 7
    built.save_pretrained(tmp_path / "model", max_shard_size="8KB")  # several files and their index
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 1
    return tmp_path / "model"


def same(hollow: nn.Module, whole: nn.Module) -> None:
    """Once filled: names, order, ties, values, buffers, what asks for a gradient, and settings."""
    assert is_hollow(hollow) and not is_hollow(whole)
    fill(hollow)
    for one, other in zip(hollow.named_parameters(), whole.named_parameters(), strict=True):
        assert one[0] == other[0] and one[1].requires_grad == other[1].requires_grad and torch.equal(one[1], other[1]), one[0]
        assert one[1].dtype == other[1].dtype
    for one, other in zip(hollow.named_buffers(), whole.named_buffers(), strict=True):
        assert one[0] == other[0] and torch.equal(one[1], other[1])
    assert hollow.config.to_dict() == whole.config.to_dict()
    assert hollow.generation_config.to_dict() == whole.generation_config.to_dict()
    assert hollow.training == whole.training


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_filled_it_is_what_transformers_loads(folder, dtype):
    same(load_backbone(folder, dtype, hollow=True), load_backbone(folder, dtype))


@pytest.mark.parametrize(("size", "text"), [(44, None), (44, 25), (20, 20), (30, 25)])
def test_new_rows_and_other_sizes_are_those_of_a_whole_table(folder, size, text):
    config = BackboneConfig(path=str(folder))
    made = [build_backbone(config, size, seed=5, text_size=text, hollow=hollow) for hollow in (True, False)]
    same(*made)


def test_tables_that_are_split_and_filled_are_the_same(folder):
    made = []
    for hollow in (True, False):
        model = load_backbone(folder, hollow=hollow)
        tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
        rows = {name: torch.randn(6, 16, generator=torch.Generator().manual_seed(1)) for name in ("embedding", "head")}
        fill_rows(model, {"embedding": rows["embedding"]} if tied else rows, 25)
        tables = split_rows(model, 25)
        assert all(torch.equal(table, rows["embedding"]) for table in tables)
        made.append(model)
    same(*made)


@pytest.mark.parametrize("kind", [Lora(rank=2), Ia3(), Loha(rank=2), Lokr(rank=2), Vera(rank=4), Boft(block_size=2)])
def test_adapters_are_the_same_also_those_that_look_at_the_weights(folder, kind, tmp_path):
    if "gpt2" in (folder / "config.json").read_text():
        pytest.skip("its layers are Conv1D")
    made = [add_adapter(load_backbone(folder, hollow=hollow), kind, seed=4) for hollow in (True, False)]
    if kind.kind == "boft":  # not known to look at shapes alone, so the weights are there
        assert not is_hollow(made[0])
        return
    save_adapter(made[1], None, tmp_path / "adapter")
    same(*made)
    same(*(load_adapter(load_backbone(folder, hollow=hollow), tmp_path / "adapter", trainable=True) for hollow in (True, False)))


def test_what_transformers_converts_quantises_or_unties_is_loaded_whole(tmp_path):
    experts = build_backbone(BackboneConfig(config=ranks.EXPERTS), 30, seed=3)
    experts.save_pretrained(tmp_path / "experts")
    assert not is_hollow(load_backbone(tmp_path / "experts", hollow=True))
    tied = build_backbone(BackboneConfig(config={"model_type": "llama", **SMALL, "tie_word_embeddings": True}), 30, seed=3)
    tied.save_pretrained(tmp_path / "tied")
    tensors = load_file(tmp_path / "tied" / "model.safetensors")
    save_file({**tensors, "lm_head.weight": torch.zeros(30, 16)}, tmp_path / "tied" / "model.safetensors", {"format": "pt"})
    assert not is_hollow(load_backbone(tmp_path / "tied", hollow=True))
    with pytest.raises(ConfigError, match="no such folder"):
        load_backbone(tmp_path / "none" / "there" / "is", hollow=True)


def test_checks_run_on_the_first_layers_and_leave_them_hollow(folder):
    model = load_backbone(folder, hollow=True)
    layers = getattr(model.base_model, "layers", None) or model.base_model.h
    with first_layers(model):
        kept = getattr(model.base_model, "layers", None) or model.base_model.h
        assert len(kept) == (3 if "gemma3" in model.config.model_type else 2)  # one layer of each kind, and two at least
        assert not any(parameter.isnan().any() for parameter in model.parameters())
    assert (getattr(model.base_model, "layers", None) or model.base_model.h) is layers and len(layers) > 2
    assert all(parameter.isnan().all() for parameter in model.parameters())
    check_head(model)
    require_no_leak(model)
    assert is_hollow(model) and all(parameter.isnan().all() for parameter in model.parameters())


def test_checks_on_the_first_layers_find_what_they_look_for(tmp_path):
    content = {"model_type": "llama", **SMALL}
    build_backbone(BackboneConfig(config=content), 30, seed=3).save_pretrained(tmp_path / "model")
    model = load_backbone(tmp_path / "model", hollow=True)
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda module, inputs, output: output * 2)
    with pytest.raises(ConfigError, match="it scales or caps them"):
        check_head(model)
    model = load_backbone(tmp_path / "model", hollow=True)
    model.base_model.layers[1].register_forward_hook(lambda module, inputs, output: output + output.mean(dim=1, keepdim=True))
    with pytest.raises(ConfigError, match="see each other"):
        require_no_leak(model)
