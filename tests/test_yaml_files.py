"""Every YAML file that is shipped can be read by the schema of the command that takes it."""

import importlib.util
import subprocess
from pathlib import Path

import pytest
import yaml

from mmpt.config import load_config
from mmpt.data.build import BuildConfig
from mmpt.data.curate.scoring import ScoreConfig
from mmpt.data.curate.steps import Step
from mmpt.evaluation.suite import load_suite
from mmpt.improvement.config import ImproveConfig
from mmpt.inference.rewriting import Rewriting
from mmpt.tokenizers.published_folder import ImportSpec
from mmpt.training.config import TrainingConfig
from mmpt.training.specs import TokenizerSpec

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("datasets/specs", "recipes", "tokenizers", "tests/end_to_end")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.yaml") if "reproduce" not in path.parts)
"""The studies of recipes/reproduce are read, step by step, in tests/reproduce/test_study.py."""


def quickstart():
    specification = importlib.util.spec_from_file_location("quickstart", ROOT / "recipes" / "quickstart.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.QuickstartConfig


def read(path: Path) -> object:
    """Raises `ConfigError` as the command would."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.is_relative_to(ROOT / "datasets") and "writer" in content:
        return load_config(path, Rewriting)
    if path.is_relative_to(ROOT / "datasets"):
        if "scorer" in content:
            return load_config(path, ScoreConfig)
        return load_config(path, BuildConfig if "sources" in content else Step.member(content["kind"]))
    if path.is_relative_to(ROOT / "tokenizers" / "published"):
        return load_config(path, ImportSpec)
    if path.is_relative_to(ROOT / "tokenizers"):
        return load_config(path, TokenizerSpec)
    if "phases" in content:
        return load_config(path, ImproveConfig)
    if "corpus" in content:
        return load_config(path, quickstart())
    return load_suite(path, Path("run")) if "benchmarks" in content else load_config(path, TrainingConfig)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_can_be_read(path):
    assert read(path) is not None


def test_no_file_is_left_out():
    listed = subprocess.run(["git", "ls-files", "*.yaml"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    others = {".pre-commit-config.yaml", "compose.yaml"}
    assert {name for name in listed if "/reproduce/" not in name} - others <= {
        path.relative_to(ROOT).as_posix() for path in FILES
    }
