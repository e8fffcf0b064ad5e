"""The recipes as commands: any working directory, signals, damaged checkpoints, mistakes in the YAML file."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
import ranks  # noqa: E402

from mmpt.tokenizers.text import text_fingerprint, train_text_tokenizer  # noqa: E402
from mmpt.vocabulary import Vocabulary  # noqa: E402

pytestmark = pytest.mark.ranks

ENVIRONMENT = {**{key: value for key, value in os.environ.items() if key != "RANK"}, "OMP_NUM_THREADS": "1"}


def start(config: Path, *overrides: str, cwd: Path, python: str = os.environ["WARM_PYTHON"]) -> subprocess.Popen:
    command = [python, str(ranks.ROOT / "recipes" / "train.py"), str(config), *overrides]
    return subprocess.Popen(command, cwd=cwd, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run of thousands of steps, from another directory with relative paths, that got SIGTERM after its third step."""
    folder = tmp_path_factory.mktemp("recipes")
    text = train_text_tokenizer(["some text"] * 3, 300)
    text.save_pretrained(folder / "text_tokenizer")
    ranks.write_shards(folder / "data", vocabulary=Vocabulary(len(text), text_fingerprint(text), 8, 2, 10, 25.0))
    content = {
        **ranks.settings(folder, "run", 0, steps=5000, run={"save_every": 5000}), "backbone": {"config": ranks.BACKBONE},
        "output": "run",
        "data": [{"path": "data"}], "text_tokenizer": "text_tokenizer",
    }  # fmt: skip
    config = folder / "pretrain.yaml"
    config.write_text(yaml.safe_dump(content))
    process = start(config, cwd=folder)
    while not (log := folder / "run" / "metrics.jsonl").exists() or len(log.read_text().splitlines()) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    return folder, config, process.returncode


def test_sigterm_saves_the_step_and_exits_with_143(interrupted):
    folder, _, code = interrupted
    assert code == 143
    (checkpoint,) = (folder / "run" / "checkpoints").iterdir()
    state = json.loads((checkpoint / "training" / "state.json").read_text())
    last = json.loads((folder / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert checkpoint.name == f"step-{state['step']:08d}" and state["step"] == state["loader"]["step"] == last["step"]


def test_a_checkpoint_is_self_contained(interrupted):
    folder, *_ = interrupted
    (checkpoint,) = (folder / "run" / "checkpoints").iterdir()
    files = {str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*") if path.is_file()}
    assert files >= {"manifest.json", "vocabulary.json", "recipe.yaml", "backbone/config.json", "backbone/model.safetensors",
                     "training/optimizer.safetensors", "training/state.json", "text_tokenizer/tokenizer.json"}  # fmt: skip
    assert not [name for name in files if name.endswith((".pt", ".pth", ".bin", ".pkl"))]
    assert yaml.safe_load((checkpoint / "recipe.yaml").read_text())["steps"] == 5000


def test_a_damaged_newest_checkpoint_is_skipped_with_its_reason(interrupted):
    folder, config, _ = interrupted
    (checkpoint,) = (folder / "run" / "checkpoints").iterdir()
    step = int(checkpoint.name[5:])
    damaged = checkpoint.with_name("step-00004999")
    shutil.copytree(checkpoint, damaged)
    with open(damaged / "backbone" / "model.safetensors", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    # Once as a person starts it.
    process = start(config, f"steps={step + 1}", "schedule=constant", cwd=folder, python=sys.executable)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "checkpoint skipped" in errors and "step-00004999" in errors and "backbone/model.safetensors: differs" in errors
    assert f"from step {step};" in output


def test_from_the_repository_root_libraries_are_not_shadowed_and_mistakes_are_named_at_once(tmp_path):
    """The root holds folders named tokenizers, datasets and kernels; `python -c` puts it first on the path."""
    config = tmp_path / "mistakes.yaml"
    content = {**ranks.settings(tmp_path, "run", 4), "backbone": {"config": ranks.BACKBONE}}
    config.write_text(yaml.safe_dump({**content, "lerning_rate": 1, "loader": {"pack_tokens": 8, "packs_per_step": 0}}))
    code = (
        "import runpy, sys, tokenizers, datasets, transformers, peft, deepspeed, webdataset\n"
        "assert all('site-packages' in library.__file__ for library in (tokenizers, datasets))\n"
        f"sys.argv = ['train', {str(config)!r}]\n"
        "try: runpy.run_path('recipes/train.py', run_name='__main__')\n"
        "except SystemExit as end: print('train', end.code)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ranks.ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout.endswith("train 2\n"), done.stderr
    assert "Traceback" not in done.stderr
    for expected in ("mistakes.yaml: 3 mistakes", "lerning_rate: unknown key", "loader.packs_per_step:", "ZeRO stage 4 is not"):
        assert expected in done.stderr
    workbenches = [ranks.ROOT / name for name in ("datasets", "tokenizers", "kernels", "recipes")]
    assert not [path for path in workbenches if (path / "__init__.py").exists()]


def test_inspect_shows_what_a_step_trains_on(interrupted):
    folder, *_ = interrupted
    step = json.loads((folder / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    command = [os.environ["WARM_PYTHON"], "-m", "mmpt.cli", "inspect", "run", "--batch", str(step)]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    packs = [line for line in done.stdout.splitlines() if line.startswith("pack")]
    assert len(packs) == 4 and "document-" in done.stdout and "with a loss" in done.stdout
    done = subprocess.run([*command[:-1], "0"], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 2 and "expected a step from 1 to " in done.stderr
