"""Runs that begin from a vision language model, and from models on the hub."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from hub_stub import hub
from PIL import Image as Pillow
from safetensors.torch import load_file
from tiny_vlm import DECODER, words, write_llava
from transformers import AutoModelForCausalLM, LlamaConfig

from mmpt.data.feature_rows import PictureRows
from mmpt.data.shards.write import TokenShardWriter
from mmpt.data.token_documents import token_documents
from mmpt.document import Document, Image, Text
from mmpt.media import encode_png
from mmpt.model.import_vlm import import_vlm
from mmpt.tokenizers.multimodal import MultimodalTokenizer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
RECIPE = {
    "steps": 2, "loader": {"pack_tokens": 64, "packs_per_step": 1}, "optimizer": {"learning_rate": 0.01},
    "schedule": {"warmup_steps": 0}, "precision": "float32", "run": {"save_every": 2, "log_every": 1},
    "deepspeed": {"zero_optimization": {"stage": 0}},
}  # fmt: skip


def train(folder: Path, recipe: dict, **environment: str) -> Path:
    """The checkpoint of a run of two steps."""
    path = folder / f"{Path(recipe['output']).name}.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **recipe}))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    command = [os.environ["WARM_PYTHON"], str(ROOT / "recipes" / "train.py"), str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    lines = [json.loads(line) for line in (Path(recipe["output"]) / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    return Path(recipe["output"]) / "checkpoints" / "step-00000002"


def write_shards(folder: Path, tokenizer: MultimodalTokenizer, pictures: bool) -> None:
    features = {"image": PictureRows(rows=16)} if pictures else {}
    documents = []
    for number in range(6):
        shown = Image(encode_png(Pillow.new("RGB", (32, 32), (40 * number, 9, 9))), "png", 32, 32)
        documents.append(Document(f"d{number}", "test", (*[shown] * pictures, Text("the red circle above a blue square"))))
    with TokenShardWriter(folder, vocabulary=tokenizer.vocabulary, built={}) as writer:
        for one in token_documents(documents, tokenizer, features=features):
            writer.write(one)


def test_a_vision_language_model_is_the_base_of_runs(tmp_path):
    """Adapters on its frozen decoder, and all of its weights; its tower and its projector in both."""
    taken = tmp_path / "taken"
    import_vlm(str(write_llava(tmp_path / "llava")), taken)
    write_shards(tmp_path / "tokens", MultimodalTokenizer.of_checkpoint(taken), True)
    data = {"data": [{"path": str(tmp_path / "tokens")}]}
    adapted = train(tmp_path, {**data, "output": str(tmp_path / "lora"), "from": str(taken), "adapter": {"rank": 2}})
    whole = {"backbone": {"path": str(taken / "backbone")}, "features_from": str(taken)}
    learned = train(tmp_path, {**data, "output": str(tmp_path / "whole"), **whole})
    for run, frozen in ((adapted, True), (learned, False)):
        names = {"backbone": "backbone/model.safetensors", "connector": "features/image/connector.safetensors"}
        before, after = ({key: load_file(one / name) for key, name in names.items()} for one in (taken, run))
        for part in names:
            moved = [float((value - after[part][name]).abs().max()) for name, value in before[part].items()]
            # Two updates of Adam: near to where they began.
            assert max(moved) == 0 if frozen and part == "backbone" else 0 < max(moved) < 0.03, (run, part)
        towers = [load_file(one / "features/image/encoder.safetensors") for one in (taken, run)]
        assert all(torch.equal(value, towers[1][name]) for name, value in towers[0].items())


@pytest.mark.parametrize("kind", ["published", "pushed"])
def test_a_run_begins_from_a_backbone_on_the_hub(tmp_path, kind):
    """By huggingface_hub's own client, from a hub on this machine, and then from its cache without one."""
    model, text = tmp_path / "model", words("")
    AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=320, **DECODER)).save_pretrained(model)
    text.save_pretrained(model)
    tokenizer = MultimodalTokenizer.load(model, None, None)
    write_shards(tmp_path / "tokens", tokenizer, False)
    common = {"data": [{"path": str(tmp_path / "tokens")}], "text_tokenizer": str(model)}
    if kind == "pushed":  # a checkpoint of mmpt, whose backbone is a folder inside
        local = train(tmp_path, {**common, "output": str(tmp_path / "first"), "backbone": {"path": str(model)}})
        model = tmp_path / "pushed"
        shutil.copytree(local, model)
    here = {"path": str(model / "backbone" if kind == "pushed" else model)}
    wanted = load_file(
        train(tmp_path, {**common, "output": str(tmp_path / "here"), "backbone": here}) / "backbone/model.safetensors"
    )
    recipe = {**common, "backbone": {"path": "hf://someone/base"}}
    with hub() as remote:
        files = {str(path.relative_to(model)): path.read_bytes() for path in model.rglob("*") if path.is_file()}
        remote.repositories["someone/base"], remote.private["someone/base"] = files, False
        # In a process of its own: the client reads the hub's address as it is imported.
        there = {"HF_ENDPOINT": remote.endpoint, "HF_HOME": str(tmp_path / "home")}
        found = train(tmp_path, {**recipe, "output": str(tmp_path / "there")}, **there)
        assert any("model.safetensors" in asked for asked in remote.asked)
    runs = [found]
    if kind == "published":
        offline = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
        runs.append(train(tmp_path, {**recipe, "output": str(tmp_path / "cached")}, **offline))
    for run in runs:
        weights = load_file(run / "backbone/model.safetensors")
        assert weights.keys() == wanted.keys() and all(torch.equal(value, weights[name]) for name, value in wanted.items())
