"""Every method of every family says where it comes from, is used by a YAML file of the repository, and has a test."""

import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest

from mmpt.catalogue import entry, first_sentence, published_systems, source, yaml_line
from mmpt.methods import Method, families

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = list(families())
METHODS = [(family, kind) for family in FAMILIES for kind in family.names()]


@cache
def texts(pattern: str, *folders: str) -> str:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob(pattern))]
    return "\n".join(path.read_text(encoding="utf-8") for path in found)


def used_in_yaml(family: type[Method], kind: str) -> bool:
    """Whether a YAML file of the repository, or a block of a README, has the kind; comments count, they show it to a reader.

    A kind that two families have must stand on a line with the key of this one.
    """
    text = texts("*.yaml", "datasets", "tokenizers", "recipes", "kernels") + texts("*.md", "datasets", "tokenizers", "recipes")
    shared = sum(kind in other.names() for other in FAMILIES) > 1
    key = family.key if shared else rf"(?:kind|{family.key})"
    return bool(re.search(rf"\b{key}:.*\b{re.escape(kind)}\b", text))


def named_in_tests(family: type[Method], kind: str) -> bool:
    """Whether a test of the family's room imports the method's file or its module, or names the kind as a value.

    That it is a word of a sentence, or of another name, is not enough.
    """
    room, word, folder = family.__module__.split(".")[1], re.escape(kind), re.escape(family.__module__)
    file = rf"from {folder}\._?{word} import|from {folder} import (?:[^\n(]*|\([^)]*)\b{word}\b"
    value = rf"[\"']{word}[\"'-]|\b(?:kind|{family.key}): {word}\b"
    return bool(re.search(f"{file}|{value}", texts("*.py", f"tests/{room}")))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_a_family_names_its_key_and_has_methods(family):
    assert family.key and family.names(), family
    assert not family.default_kind or family.default_kind in family.names()
    assert family.__doc__


@pytest.mark.parametrize(("family", "kind"), METHODS, ids=lambda value: getattr(value, "__name__", value))
def test_a_method_names_its_source_is_used_and_tested(family, kind):
    method = family.member(kind)
    found = entry(family, method)
    assert "__doc__" in vars(method) and found.does, f"{kind}: no docstring of its own"
    assert found.source, f"{kind}: its docstring names neither a paper nor a repository, nor says that it is our own"
    assert used_in_yaml(family, kind), f"{kind}: no YAML file asks for it"
    assert named_in_tests(family, kind), f"{kind}: no test names it"


def test_what_a_docstring_names_is_found():
    assert source("Falls by a half cosine (Loshchilov and Hutter 2017, arXiv:1608.03983).") == "arXiv:1608.03983"
    assert source("As in AILab-CVC/SEED.") == "AILab-CVC/SEED"
    assert source("Learned queries (Li et al. 2023).") == "Li et al. 2023"
    assert source("Our own: nobody else needs it.") == "own"
    assert source("A linear map of each feature.") == ""
    assert first_sentence("That of Goyal et al. (2017) is linear. Then it falls.") == "That of Goyal et al. (2017) is linear"


def test_the_yaml_line_of_a_method_is_read():
    for family, kind in METHODS:
        line = yaml_line(family, family.member(kind))
        assert line == f"{family.key}: {kind}" or line.startswith(f"{family.key}: {{kind: {kind}, "), line


def test_published_systems_are_listed_once_and_methods_carry_listed_ones():
    systems = published_systems()
    assert len({row.id for row in systems}) == len(systems) == 187
    assert {row.status for row in systems} <= {"works", "part", "library", "absent", "out"}
    names = {row.name for row in systems}
    for family, kind in METHODS:
        assert set(family.member(kind).carries) <= names, kind
    for row in systems:  # a path that is named is there
        for path in re.findall(r"\b(?:mmpt|datasets|tokenizers|recipes|kernels|tests)/[\w/.-]+\w", row.by):
            assert (ROOT / path).exists(), f"{row.id}: {path}"


def reference():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_of_keys_and_methods_are_what_the_code_says():
    made = reference()
    for name, text in made.pages().items():
        assert (made.FOLDER / name).read_text(encoding="utf-8") == text, "run python docs/reference.py"


def test_every_key_has_its_meaning_under_it():
    missing = []
    for line in reference().configuration().splitlines():
        cells = re.split(r"(?<!\\) ?\| ?", line)
        if line.startswith("| `") and len(cells) >= 5 and not cells[4].strip():
            missing.append(line)
    assert not missing, "\n".join(missing)
