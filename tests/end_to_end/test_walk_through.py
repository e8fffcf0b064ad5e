"""The README's way from one's own files to an answer, at toy size: its own commands, one after the other."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = {"model_type": "qwen3", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": True}  # fmt: skip
SIDE = {"width": 32, "depth": 1, "heads": 2}
IMAGE = {"side": 64, "tower": {"patch": 8, **SIDE}, "qformer": {"queries": 4, **SIDE}, "decoder": {"patch": 8, **SIDE},
         "captions": SIDE, "quantizer": {"kind": "fsq", "levels": [4, 4]}}  # fmt: skip
FIT = {"batch_size": 4, "optimizer": {"learning_rate": 0.001}}
JOINT = {"joint": {"fit": {"steps": 3, **FIT}}}
TRAINING = ["loader.pack_tokens=512", "loader.packs_per_step=1", "steps=2", "schedule.warmup_steps=0", "run.save_every=2"]
SMALLER = {
    "my-data.yaml": ["sources=[{kind: spoken_scenes, split: train, count: 12}]", "--processes=1"],
    "my-test-data.yaml": ["sources=[{kind: spoken_scenes, split: test, count: 3}]", "--processes=1"],
    "datasets/dedup.py": ["--processes=1"],
    "my-rules.yaml": ["--processes=1"],
    "tokenizers/text.yaml": ["ids=300"],
    "tokenizers/speech_scenes.yaml": [
        "tokenizer.quantizer={kind: ema, codes: 16, dim: 8}", "tokenizer.encoder={dim: 32}", "tokenizer.decoder={dim: 32}",
        f"fit={json.dumps({'steps': 3, **FIT})}", f"speak={json.dumps({'steps': 1, **FIT})}"],
    "tokenizers/image_scenes.yaml": [f"tokenizer={json.dumps(IMAGE)}", f"stages={json.dumps(JOINT)}"],
    "datasets/specs/to_tokens.yaml": ["--processes=1"],
    "datasets/specs/to_instructions.yaml": ["--processes=1"],
    "recipes/pretrain.yaml": [*TRAINING, f"backbone={json.dumps({'config': TINY})}"],
    "recipes/finetune.yaml": [*TRAINING, "from=runs/pretrain/checkpoints/step-00000002"],
    "generate": ["--max-tokens=40"],
}  # fmt: skip
"""What is appended to a command that has this word."""
RUN = """
import json, os, runpy, sys, traceback
import deepspeed, peft, torch, transformers  # each command runs in a fork, since DeepSpeed starts once in a process

def run(line):
    sys.argv = line
    if line[0] == "mmpt":
        from mmpt.cli import main
        return main()
    sys.path.insert(0, os.path.dirname(line[0]))
    runpy.run_path(line[0], run_name="__main__")

for line in json.loads(sys.argv[1]):
    print("$", *line, flush=True)
    child = os.fork()
    if not child:
        code = 1
        try:
            run(line)
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        sys.exit(f"{line}: exit code {code}")
"""


def commands(section: str) -> list[list[str]]:
    """Those of the walk-through as one process runs them, smaller."""
    found = []
    for block in re.findall(r"```\n((?:python|mmpt) .*?)```", section, re.S):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            words = words[next(n for n, word in enumerate(words) if word == "mmpt" or word.endswith(".py")) :]
            found.append(words + [one for name, more in SMALLER.items() if name in words for one in more])
    return [words for words in found if words[:2] != ["mmpt", "serve"]]


@pytest.mark.slow
def test_the_readmes_commands_lead_from_files_to_an_answer(tmp_path):
    pytest.importorskip("espeakng_loader", reason="the scenes are spoken by espeak-ng")
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Your own data")[2]
    section = section.partition("A specification is a list of sources")[0]
    for name, content in re.findall(r"```yaml\n# (\S+\.yaml)[^\n]*\n(.*?)```", section, re.S):
        (tmp_path / name).write_text(content)
    for folder in ("datasets", "tokenizers", "recipes"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    asked = commands(section)
    assert len(asked) > 12
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [os.environ["WARM_PYTHON"], "-c", RUN, json.dumps(asked)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    for made in ("page.html", "stats.html", "runs/finetune/benchmarks/report.html", "runs/finetune/checkpoints/step-00000002"):
        assert (tmp_path / made).exists(), made
