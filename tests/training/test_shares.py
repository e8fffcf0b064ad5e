"""Shares of a checkpoint: every tensor by one rank, waited for, and never published without one of them."""

import json
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from mmpt.errors import CheckpointError
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.storage import published_folder, sha256
from mmpt.training.checkpoint import _named_as_in_files
from mmpt.training.shares import TensorFiles, give_up, hand_in, handed_in, owners, shard_name, weight_map

SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}


def test_each_tensor_has_one_owner_and_none_has_much_more_than_its_part():
    sizes = [(f"weight-{number}", size) for number, size in enumerate([50, 7, 7, 30, 9, 9, 9, 40, 1, 1])]
    found = owners(iter(sizes), 3)
    held = [sum(size for name, size in sizes if found[name] == rank) for rank in range(3)]
    assert list(found) == [name for name, _ in sizes] and sum(held) == 163
    assert max(held) <= 163 / 3 + 50
    assert set(owners(iter(sizes), 1).values()) == {0}
    assert (shard_name("model", 1, 12), shard_name("model", 0, 1)) == ("model-00002-of-00012.safetensors", "model.safetensors")


def test_shares_are_waited_for_and_come_with_their_hashes(tmp_path):
    (tmp_path / "training").mkdir()

    def later() -> None:
        for rank in (2, 1):
            (tmp_path / "training" / f"{rank}").write_bytes(b"%d" % rank)
            hand_in(tmp_path, rank, [f"training/{rank}"])

    thread = threading.Timer(0.1, later)
    thread.start()
    found = handed_in(tmp_path, 3)
    thread.join()
    assert found == {f"training/{rank}": {"sha256": sha256(tmp_path / "training" / f"{rank}"), "bytes": 1} for rank in (1, 2)}
    assert handed_in(tmp_path, 1) == {}


def test_nothing_is_published_where_a_share_does_not_come(tmp_path):
    parts = tmp_path / "parts"
    parts.mkdir()
    hand_in(parts, 1, [])

    def publish(**options) -> None:
        with published_folder(tmp_path / "step-1", {"format": "x"}, handed_in(parts, 3, **options)):
            pass

    with pytest.raises(CheckpointError, match="rank 2 has not written its share"):
        publish(patience=0.05)
    with pytest.raises(CheckpointError, match="rank 2 has not written its share"):
        publish(abandoned=lambda: True)
    give_up(parts, 2, OSError("no room"))
    with pytest.raises(CheckpointError, match="rank 2 could not write its share of the checkpoint: OSError: no room"):
        publish()
    assert not (tmp_path / "step-1").exists()


def test_tensors_of_several_files_are_read_one_by_one(tmp_path):
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(1)}
    for name, value in tensors.items():
        save_file({name: value}, tmp_path / f"{name}.safetensors")
    found = TensorFiles(sorted(tmp_path.iterdir()))
    assert found.shapes == {"a": (2, 3), "b": (1,)} and all(torch.equal(found[name], tensors[name]) for name in found)
    (tmp_path / "c.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="c.safetensors: it cannot be read"):
        TensorFiles(sorted(tmp_path.iterdir()))


def test_transformers_loads_numbered_files_by_the_index(tmp_path):
    model = build_backbone(BackboneConfig(config={"model_type": "llama", **SMALL}), 20, seed=0).to(torch.bfloat16)
    model.config.save_pretrained(tmp_path)
    state = dict(model.named_parameters())
    owner = owners(((name, value.numel()) for name, value in state.items()), 2)
    for rank in range(2):
        own = {name: value.detach() for name, value in state.items() if owner[name] == rank}
        save_file(own, tmp_path / shard_name("model", rank, 2), {"format": "pt"})
    index = weight_map(tmp_path)
    assert index["metadata"] == {"total_size": 2 * sum(value.numel() for value in state.values())}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert all(torch.equal(value, state[name]) for name, value in loaded.named_parameters())


def test_models_whose_files_have_other_names_are_written_by_one_rank(tmp_path: Path):
    """What `_named_as_in_files` relies on inside transformers: the names that it gives are those that saving writes."""
    experts = {"model_type": "mixtral", **SMALL, "num_local_experts": 4}
    for content, plain in (({"model_type": "llama", **SMALL}, True), ({"model_type": "qwen3", **SMALL}, True), (experts, False)):
        model = build_backbone(BackboneConfig(config=content), 20, seed=0)
        model.save_pretrained(tmp_path / content["model_type"])
        files = TensorFiles((tmp_path / content["model_type"]).glob("*.safetensors"))
        assert (set(files) == {name for name, _ in model.named_parameters()}) == plain == _named_as_in_files(model)
