"""A checkpoint to the hub and back, by huggingface_hub's own client against a hub on this machine; and into a folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hub_stub import hub
from huggingface_hub import ModelCard

from mmpt.document import Text
from mmpt.errors import CheckpointError, ConfigError
from mmpt.inference.load import load
from mmpt.model.hub import destination, on_hub
from mmpt.model.loading import FORMAT
from mmpt.storage import check_folder, published_folder

from .tiny import write_checkpoint

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SAMPLE = [[Text("the red circle")]]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with results: its checkpoint has a recipe and an optimizer's state."""
    folder = write_checkpoint(tmp_path_factory.mktemp("tiny"))
    checkpoint = folder / "checkpoints" / "step-00000001"
    manifest = check_folder(checkpoint, FORMAT)
    recipe = {
        "output": "runs/x", "data": [{"path": "tokens/books", "weight": 2.0}], "steps": 9,
        "backbone": {"path": "Qwen/Qwen3-0.6B"}, "evaluate": {"shards": {"test": "tokens/test"}},
    }  # fmt: skip
    whole = folder / "checkpoints" / "step-00000007"
    with published_folder(whole, {"format": FORMAT, "step": 7, "packages": {"mmpt": "0.2.0"}}) as temporary:
        for name in manifest["files"]:
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes((checkpoint / name).read_bytes())
        (temporary / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        (temporary / "training").mkdir()
        (temporary / "training" / "optimizer.safetensors").write_bytes(b"x" * 100)
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 7, "loss": 1.5, "nll": {"image": 2.25}}) + "\n")
    evaluation = {"step": 7, "held_out": {"loss": 2.5, "loss/text": 2.75}, "suite": {"which_acc": 0.5}}
    (folder / "evaluations.jsonl").write_text(json.dumps({**evaluation, "step": 6}) + "\n" + json.dumps(evaluation) + "\n")
    return folder


def mmpt(*arguments: str, python: str = os.environ["WARM_PYTHON"], **environment: str) -> subprocess.CompletedProcess:
    command = [python, "-m", "mmpt.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_a_folder_is_a_checkpoint_of_its_own_with_a_card_of_the_runs_results(run, tmp_path):
    done = mmpt("push", str(run), str(tmp_path / "shared"), "--license", "apache-2.0")
    assert done.returncode == 0 and done.stdout == f"{tmp_path / 'shared'}\n", done.stderr
    found = check_folder(tmp_path / "shared", FORMAT)
    assert found["step"] == 7 and not [name for name in found["files"] if name.startswith("training/") or name == "README.md"]
    ids = [model.answer(SAMPLE, max_new_tokens=8)[0].ids for model in (load(run), load(tmp_path / "shared"))]
    assert ids[0] == ids[1]
    card = ModelCard.load(tmp_path / "shared" / "README.md")
    assert card.data.license == "apache-2.0" and card.data.library_name == "mmpt" and card.data.base_model == "Qwen/Qwen3-0.6B"
    figures = {one.metric_name: one.metric_value for one in card.data.eval_results}
    assert figures == {"loss": 2.5, "which_acc": 0.5}
    for said in (
        "A text, picture and speech language model",
        "| held-out | loss/text | 2.75 |",
        "after step 7 of 9",
        "`tokens/books` | 2.0",
        "`tokens/test` (test)",
        "picture codes | 2.25",
        "steps: 9",
    ):
        assert said in card.text
    assert f'mmpt.load("{tmp_path / "shared"}")' in card.text
    again = mmpt("push", str(run), str(tmp_path / "shared"))
    assert again.returncode == 2 and "it exists already" in again.stderr


def test_to_the_hub_and_back(run, tmp_path):
    """In processes of their own: the client reads the hub's address as it is imported."""
    with hub() as remote:
        there = {"HF_ENDPOINT": remote.endpoint, "HF_TOKEN": "hf_of_a_test", "HF_HOME": str(tmp_path / "home")}
        done = mmpt("push", str(run), "someone/tiny", "--private", python=sys.executable, **there)  # as a person starts it
        assert done.returncode == 0 and remote.endpoint in done.stdout, done.stderr[-2000:]
        files = remote.repositories["someone/tiny"]
        assert remote.private["someone/tiny"] and not [name for name in files if name.startswith("training/")]
        assert {"manifest.json", "README.md", "backbone/model.safetensors", "recipe.yaml"} <= set(files)
        assert b"license: unknown" in files["README.md"] and b'mmpt.load("hf://someone/tiny")' in files["README.md"]
        assert not list((run / "checkpoints").glob(".push-*"))
        asked = ["generate", "hf://someone/tiny", "--text", "the red circle", "--max-tokens", "8", "--to", "text"]
        pulled = mmpt(*asked, **there)
        assert pulled.returncode == 0, pulled.stderr[-2000:]
        wanted = mmpt(*asked[:1], str(run), *asked[2:])
        assert pulled.stdout == wanted.stdout and wanted.stdout.strip()
        # A file that was changed there is found out; what is not there is told.
        (name,) = [name for name in files if name.endswith("backbone/model.safetensors")]
        files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])
        damaged = mmpt(*asked, **there)
        assert damaged.returncode == 2 and "differs from the hash" in damaged.stderr
        gone = mmpt("generate", "hf://someone/else", "--text", "a", **there)
        assert gone.returncode == 2 and "hf://someone/else: cannot be had from the hub" in gone.stderr
    unheard = mmpt("push", str(run), "someone/tiny", **there)
    assert unheard.returncode == 2 and "the hub does not take it" in unheard.stderr, unheard.stderr[-2000:]


def test_an_export_is_pushed_for_transformers(run, tmp_path):
    from transformers import AutoModelForCausalLM

    done = mmpt("push", str(run), str(tmp_path / "plain"), "--export")
    assert done.returncode == 0, done.stderr
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "plain").config.model_type == "qwen3"
    assert f'AutoModelForCausalLM.from_pretrained("{tmp_path / "plain"}")' in (tmp_path / "plain" / "README.md").read_text()


def test_what_is_on_the_hub_and_what_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    assert on_hub("hf://a/b") == on_hub(Path("hf://a/b")) == ("a/b", None) and on_hub("hf://a/b@v1.0") == ("a/b", "v1.0")
    assert on_hub("a/b") is None and on_hub("hf://a") is None
    places = {"a/b": True, "hf://a/b": True, "./b": False, "b": False, "/x/b": False, "models/b": False, "runs/b": False}
    assert {name: destination(name)[1] for name in places} == places
    with pytest.raises(ConfigError, match="no revision"):
        destination("hf://a/b@main")
    with pytest.raises(CheckpointError):
        load(Path("a/b"))
