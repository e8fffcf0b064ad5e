"""Help, and what is wrong in a file, are told before the libraries that take seconds are imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "transformers", "deepspeed", "peft", "scipy", "open_clip", "matplotlib")
FOLDERS = ("datasets", "tokenizers", "recipes", "kernels")
SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for folder in FOLDERS
    for path in (ROOT / folder).glob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")  # others are modules of these
)
COMMANDS = ("", "generate", "chat", "serve", "export", "push", "soup", "inspect", "tokenizers", "doctor")
RUN = """
import contextlib, io, json, os, runpy, sys
os.chdir(sys.argv[1])
for line in json.loads(sys.argv[2]):
    folder = [os.path.dirname(line[0])] if line[0].endswith(".py") else []  # as for a script that is started by itself
    sys.argv, before = line, list(sys.path)
    sys.path[:0] = folder
    said, code = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            if line[0] == "mmpt":
                from mmpt.cli import main
                main()
            else:
                runpy.run_path(line[0], run_name="__main__")
        except SystemExit as problem:
            code = problem.code or 0
    sys.path[:] = before
    print(json.dumps([line, code, said.getvalue(), [name for name in HEAVY if name in sys.modules]]))
"""


def run(folder: Path, *lines: list[str]) -> list:
    """(line, exit code, what it printed, heavy modules imported by then) of each, one after the other in one interpreter."""
    import json

    command = [sys.executable, "-c", RUN.replace("HEAVY", repr(HEAVY)), str(folder), json.dumps(lines)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def helped() -> list:
    commands = [["mmpt", *filter(None, [name]), "--help"] for name in COMMANDS]
    return run(ROOT, *([script, "--help"] for script in SCRIPTS), *commands)


def test_help_is_told_without_the_heavy_libraries(helped):
    assert len(helped) == len(SCRIPTS) + len(COMMANDS) > 20
    for line, code, said, heavy in helped:
        assert code == 0 and "usage:" in said and not heavy, (line, code, heavy, said[-500:])


def test_tokenizers_are_there_without_the_code_of_transformers_models():
    """Half of their start: what makes tokens of shards starts in each of its processes."""
    code = "import sys, mmpt.tokenizers.multimodal; print('transformers.modeling_utils' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_help_explains_every_option_and_shows_defaults(helped):
    texts = {" ".join(line): said for line, _, said, _ in helped}
    assert "(default: 0.05)" in texts["datasets/build.py --help"] and "in YAML" in texts["datasets/build.py --help"]
    assert "(default: 8000)" in texts["mmpt serve --help"] and "(default: 256)" in texts["mmpt generate --help"]
    assert "(default: 20)" in texts["datasets/view.py --help"]
    for text in texts.values():
        assert "(default: None)" not in text and "(default: False)" not in text


WRONG = {
    "datasets/build.py": ("sources: [{kind: markdown, foldre: x}]", "folder"),
    "datasets/filter.py": ("rules: [{kind: image_size, min_sid: 3}]", "min_side"),
    "datasets/interleave.py": ("ratio: 2\nspeech: {kind: text_to_codes, model: a, text: b}", "ratio"),
    "datasets/to_tokens.py": ("text: a\nspech: b", "speech"),
    "tokenizers/train.py": ("kind: speech\ndata: [a]\ntext_tokeniser: b", "text_tokenizer"),
    "recipes/train.py": ("output: a\ndata: [{path: b}]\nfrom: c\noptimizer: {kind: muon, lerning_rate: 1}", "learning_rate"),
    "recipes/quickstart.py": ("run: a\nrank: 2", "ranks"),
    "recipes/evaluate.py": ("benchmarks: [{name: a, kind: loss, foldr: b}]", "folder"),
}
ARGUMENTS = {"datasets/filter.py": ["IN", "OUT"], "datasets/interleave.py": ["IN", "OUT"], "datasets/to_tokens.py": ["IN", "OUT"],
             "datasets/build.py": ["OUT"], "tokenizers/train.py": ["OUT"]}  # fmt: skip


def test_a_wrong_file_is_answered_without_the_heavy_libraries(tmp_path):
    lines = []
    for script, (content, _) in WRONG.items():
        path = tmp_path / f"{script.replace('/', '-')}.yaml"
        path.write_text(content)
        files = ["run", str(path)] if script == "recipes/evaluate.py" else [str(path)]
        lines.append([script, *files, *ARGUMENTS.get(script, [])])
    for (script, *_), code, said, heavy in run(ROOT, *lines):
        assert code == 2 and WRONG[script][1] in said and "Traceback" not in said and not heavy, (script, code, heavy, said)
