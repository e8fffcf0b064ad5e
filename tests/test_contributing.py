"""The example of CONTRIBUTING.md works as written: new files only, and the method is there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", re.S)


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_method_is_new_files_only(tmp_path):
    files = BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert [Path(name).suffix for name, _ in files] == [".py", ".yaml", ".py"]
    for folder in ("mmpt", "tests", "recipes", "datasets", "tokenizers", "kernels", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "results"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, text in files:
        assert not (tmp_path / name).exists(), f"{name} is there already"
        (tmp_path / name).write_text(text, encoding="utf-8")
    kind = Path(files[0][0]).stem
    listed = run(tmp_path, sys.executable, "-m", "mmpt.cli", "methods", "--family", "schedule")
    row = next(line.split("\t") for line in listed.splitlines() if line.split("\t")[1] == kind)
    assert row[3] == "arXiv:1706.03762" and row[4] == f"schedule: {kind}"
    tests = [files[2][0], "tests/test_families.py", "-k", f"{Path(files[2][0]).stem} or {kind} or yaml_line"]
    said = run(tmp_path, sys.executable, "-m", "pytest", "-p", "no:xdist", *tests)
    assert "3 passed" in said, said
    for tool in (["ruff", "check"], ["ruff", "format", "--check"]):
        run(tmp_path, sys.executable, "-m", *tool, *[name for name, _ in files if name.endswith(".py")])
