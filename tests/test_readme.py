"""What the README says is what the result files and the tree say."""

import json
import re
import runpy
import shlex
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_tables_are_made_from_the_result_files():
    tables = runpy.run_path(str(ROOT / "docs" / "tables.py"))
    for page in tables["PAGES"]:
        content = page.read_text(encoding="utf-8")
        assert tables["fill"](content) == content, f"{page}: run python docs/tables.py"


def test_every_file_that_is_named_exists():
    named = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r"<!-- table: (\S+) -->", README)
    missing = [name for name in named if not (ROOT / name).exists()]
    assert named and not missing


def test_verdicts_follow_from_values_and_bars():
    for path in ROOT.glob("*/results/*.json"):
        for row in json.loads(path.read_text(encoding="utf-8"))["figures"]:
            if row["bar"] is not None:
                met = row["value"] <= row["bar"] if row["at_most"] else row["value"] >= row["bar"]
                assert row["ok"] == met, f"{path.name}: {row['name']}"


def walk_through() -> tuple[dict[str, dict], list[list[str]]]:
    """The files and the commands of "Your own data" up to the list of sources."""
    section = README.partition("## Your own data")[2].partition("A specification is a list of sources")[0]
    files = {name: yaml.safe_load(text) for name, text in re.findall(r"```yaml\n# (\S+\.yaml)[^\n]*\n(.*?)```", section, re.S)}
    blocks = re.findall(r"```\n((?:python|mmpt) .*?)```", section, re.S)
    return files, [words for block in blocks for line in block.splitlines() if (words := shlex.split(line, comments=True))]


READS = {"data", "text_tokenizer", "speech_tokenizer", "image_tokenizer", "text", "speech", "image", "from", "folder", "path"}
"""Keys of the walk-through's files that name what an earlier command wrote."""
MAKERS = ("datasets/build.py", "datasets/dedup.py", "datasets/filter.py", "datasets/to_tokens.py", "tokenizers/train.py")
"""Scripts whose last argument is the folder that they write."""


def named(content: object, key: str = "") -> set[str]:
    """The folders that a specification reads."""
    if isinstance(content, dict):
        return {path for name, value in content.items() for path in named(value, name)}
    if isinstance(content, list):
        return {path for value in content for path in named(value, key)}
    return {content} if key in READS and isinstance(content, str) and "/" in content else set()


def test_each_command_of_the_walk_through_reads_what_those_before_it_wrote():
    files, commands = walk_through()
    written: set[str] = set()
    assert len(commands) > 12
    for command in commands:
        script = next((word for word in command if word.endswith(".py")), "mmpt")
        specs = [word for word in command if word.endswith(".yaml")]
        contents = [files[name] if name in files else yaml.safe_load((ROOT / name).read_text(encoding="utf-8")) for name in specs]
        folders = [word for word in command if re.match(r"(shards|tokens|runs)/", word)]
        made = folders[-1:] if script in MAKERS else []
        for path in {*folders[: len(folders) - len(made)], *(path for content in contents for path in named(content))}:
            assert any(path == one or path.startswith(f"{one}/") for one in written), f"{' '.join(command)}: what makes {path}?"
        written |= {*made, *(content["output"] for content in contents if "output" in content)}
    assert {"shards/train", "tokens/train", "runs/text", "runs/pretrain", "runs/finetune"} <= written


def test_the_walk_throughs_files_hold_what_their_scripts_expect():
    from mmpt.config import load_config, parse_config
    from mmpt.data.build import BuildConfig
    from mmpt.data.curate.steps.filter import Filter
    from mmpt.data.curate.steps.to_tokens import ToTokens
    from mmpt.evaluation.suite import SuiteConfig
    from mmpt.training.config import TrainingConfig
    from mmpt.training.specs import TokenizerSpec

    schemas = {
        "datasets/build.py": BuildConfig,
        "datasets/filter.py": Filter,
        "datasets/to_tokens.py": ToTokens,
        "tokenizers/train.py": TokenizerSpec,
        "recipes/train.py": TrainingConfig,
        "recipes/evaluate.py": SuiteConfig,
    }
    files, commands = walk_through()
    checked = set()
    for command in commands:
        for name in [word for word in command if word.endswith(".yaml")]:
            script = next(word for word in command if word.endswith(".py"))
            parse_config(files[name], schemas[script], name) if name in files else load_config(ROOT / name, schemas[script])
            checked.add(script)
    assert checked == set(schemas)
