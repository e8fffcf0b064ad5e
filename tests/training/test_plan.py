"""What a run takes, told before it is begun: counted against what a small one has, and for 70 B parameters without a weight."""

import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from mmpt.config import parse_config, read_yaml
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.shards.write import TokenShardWriter
from mmpt.errors import ConfigError
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.training.base import open_model
from mmpt.training.config import TrainingConfig
from mmpt.training.distributed import world
from mmpt.training.memory import counts, memory
from mmpt.training.outline import outline
from mmpt.training.parts import freeze
from mmpt.training.plan import foretell
from mmpt.training.sources import open_sources
from mmpt.vocabulary import Vocabulary

sys.path.insert(0, str(Path(__file__).parent))
import ranks  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
LLAMA_70B = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672,
    "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 128256, "rms_norm_eps": 1e-05,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}, "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
    "dtype": "bfloat16", "bos_token_id": 128000, "eos_token_id": 128001,
}  # fmt: skip
CODES = {"image_codes": 8192, "codes_per_image": 32, "speech_codes": 4096, "speech_rate": 25.0}


QWEN3_8B = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288,
    "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
    "tie_word_embeddings": False, "dtype": "bfloat16",
}  # fmt: skip


@pytest.fixture
def big(tmp_path):
    """The recipe for eight H100, on a configuration without weights and a shard of three ids."""
    return planned(tmp_path, "h100_70b", LLAMA_70B, 128256)


def planned(folder: Path, recipe: str, settings: dict, ids: int) -> dict:
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text(json.dumps(settings))
    vocabulary = Vocabulary(ids, "letters", **CODES)
    with TokenShardWriter(folder / "data", vocabulary=vocabulary, built={}) as writer:
        writer.write(TokenDocument("one", "test", np.array([1, 2, 3], dtype=np.uint32)))
    content = read_yaml(ROOT / "recipes" / f"{recipe}.yaml")
    content |= dict.fromkeys(("text_tokenizer", "speech_tokenizer", "image_tokenizer"))
    content["backbone"]["path"], content["data"] = str(folder / "model"), [{"path": str(folder / "data")}]
    return content


def test_70_b_on_eight_ranks_take_40_gb_of_main_memory_each_at_most(big):
    begun = time.monotonic()
    lines = foretell(parse_config(big, TrainingConfig, "test"), 8)
    assert time.monotonic() - begun < 60
    said = "\n".join(lines)
    per_layer = 2 * 8192 * (8192 + 1024) + 3 * 8192 * 28672 + 2 * 8192
    assert f"layers: {(80 * per_layer + 8192) / 1e6:.2f} M parameters, 0.00 M learn" in said
    low_rank = 80 * 64 * (2 * 2 * 8192 + 2 * (8192 + 1024) + 3 * (8192 + 28672))
    assert f"adapter: {low_rank / 1e6:.2f} M parameters, {low_rank / 1e6:.2f} M learn" in said
    new = 2 * 8192 * (Vocabulary(128256, "letters", **CODES).size - 128256)
    assert f"new_rows: {new / 1e6:.2f} M parameters, {new / 1e6:.2f} M learn" in said
    kept, in_all = (
        float(re.search(pattern, said)[1]) for pattern in (r"([\d.]+) GiB on each of 8 ranks", r"([\d.]+) GiB at most in all")
    )
    everything, learns = 80 * per_layer + 8192 + 2 * 128256 * 8192 + low_rank + new, low_rank + new
    # In float32 of each number that learns: gradient, master, two means.
    assert kept * 2**30 == pytest.approx((2 * everything + 4 * 4 * learns) / 8, rel=1e-3)
    assert kept < in_all <= 40e9 / 2**30
    assert all(
        name in said for name in ("weights", "gradients", "optimizer", "activations", "while they load", "for a checkpoint")
    )


def test_eight_b_in_four_bits_fit_into_24_gb(tmp_path):
    content = planned(tmp_path, "qlora", QWEN3_8B, 151669)
    said = "\n".join(foretell(parse_config(content, TrainingConfig, "test"), 1))
    matrices = 36 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 12288)
    assert f"layers: {(matrices + 36 * (2 * 4096 + 2 * 128) + 4096) / 1e6:.2f} M parameters, 0.00 M learn" in said
    held = float(re.search(r"weights [\d.]+ \(.*?layers ([\d.]+)", said)[1]) * 2**30
    assert held == pytest.approx(matrices * (0.5 + 1 / 64 + 4 / (64 * 256)), rel=1e-3)
    kept, activations = (float(re.search(pattern, said)[1]) for pattern in (r"([\d.]+) GiB on each", r"([\d.]+) of activations"))
    assert kept + activations < 24e9 / 2**30


def test_every_weight_in_float32_is_more_than_one_machine_has(big):
    big |= {"new_rows": False, "adapter": None, "deepspeed": {"zero_optimization": {"stage": 3}}}
    big["optimizer"] = {"learning_rate": 0.0001}
    config = parse_config(big, TrainingConfig, "test")
    needs = memory(outline(config), config, 8)
    assert needs.kept == pytest.approx(16 * 70.7e9 / 8, rel=0.01) and needs.host > 100e9


CHANGES = [{"kind": "grow", "intermediate": 40, "layers": 3}, {"kind": "positions", "base": 500_000}]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(("stage", "change"), [(0, []), (3, []), (0, CHANGES), (3, CHANGES)])
def test_a_plan_has_the_names_and_the_shapes_of_the_run(frozen, stage, change, tmp_path):
    ranks.write_shards(tmp_path / "data")
    path = ranks.text_model(tmp_path)
    changes = {"new_rows": True, "adapter": {"rank": 2}} if frozen else {"optimizer": {"parts": {"layers": 0}}}
    content = {**ranks.settings(tmp_path, "run", stage, **changes), "backbone": {"path": str(path), "change": change}}
    config = parse_config(content, TrainingConfig, "test")
    planned = outline(config)
    with world() as one:
        model = open_model(config, open_sources(config)[0], None, one)
    freeze(model.named_parameters(), config.optimizer)
    for found, wanted in zip(planned.named_parameters(), model.named_parameters(), strict=True):
        assert (found[0], found[1].shape, found[1].requires_grad) == (wanted[0], wanted[1].shape, wanted[1].requires_grad)
    assert counts(planned, config) == counts(model, config)
    if change:
        assert model.config.rope_parameters["rope_theta"] == 500_000 and model.config.intermediate_size == 40


def test_a_model_from_a_configuration_and_one_that_cannot_be_read(tmp_path):
    ranks.write_shards(tmp_path / "data")
    config = ranks.pretrain(tmp_path, "run", 1)
    wanted = build_backbone(BackboneConfig(config=ranks.BACKBONE), ranks.VOCABULARY.size, seed=0)
    needs = memory(outline(config), config, 2)
    size = sum(parameter.numel() for parameter in wanted.parameters())
    assert sum(needs.weights.values()) == 4 * size and sum(needs.optimizer.values()) == 4 * size
    (tmp_path / "empty").mkdir()
    content = {**ranks.settings(tmp_path, "run", 1), "backbone": {"path": str(tmp_path / "empty")}}
    with pytest.raises(ConfigError, match="its configuration cannot be read"):
        outline(parse_config(content, TrainingConfig, "test"))


def test_a_layer_keeps_in_training_about_what_is_foretold(tmp_path):
    """Bytes that autograd saves of a pass over a pack, counted by torch, against the estimate."""
    content = {"model_type": "llama", "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4,
               "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
    config = ranks.pretrain(tmp_path, "run", 0, backbone={"config": content}, loader={"pack_tokens": 256})
    model = build_backbone(config.backbone, 64, seed=0)
    own, saved = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}, {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = model.base_model(input_ids=torch.zeros(1, 256, dtype=torch.int64), use_cache=False).last_hidden_state
    assert hidden.requires_grad
    found = sum(size for size, _ in saved.values())
    assert memory(model, config, 1).activations == pytest.approx(found, rel=0.35)


@pytest.mark.parametrize("saved", [False, True])
def test_the_memory_of_a_teacher_is_told_from_its_configuration(tmp_path, saved):
    ranks.write_shards(tmp_path / "data")
    model = build_backbone(BackboneConfig(config={**ranks.BACKBONE, "hidden_size": 24}), ranks.VOCABULARY.size, seed=0)
    model.save_pretrained(tmp_path / "teacher" / ("backbone" if saved else ""))
    (tmp_path / "teacher" / ("backbone" if saved else "") / "model.safetensors").unlink()  # it is not loaded
    objectives = ["next_token", "router_balance", {"kind": "distil", "teacher": str(tmp_path / "teacher")}]
    config = parse_config(
        {**ranks.settings(tmp_path, "run", 0), "backbone": {"config": ranks.BACKBONE}, "objectives": objectives},
        TrainingConfig,
        "test",
    )
    size = sum(weight.numel() for weight in model.parameters())
    (line,) = [line for line in foretell(config, 2) if line.startswith("teacher")]
    assert f"teacher: {size / 1e6:.2f} M parameters, {2 * size / 2**30:.3f} GiB more" in line
    plain = config.model_copy(update={"objectives": config.objectives[:2]})
    assert not [line for line in foretell(plain, 2) if line.startswith("teacher")]
