"""Sources, steps, rules and voices: each is a file that a specification names, and only those that are named are imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmpt.config import load_config, parse_config
from mmpt.data.build import BuildConfig, documents
from mmpt.data.curate.rules import DocumentRule, PartRule, Rule
from mmpt.data.curate.scorers import Scorer
from mmpt.data.curate.scoring import ScoreConfig
from mmpt.data.curate.steps import Step
from mmpt.data.curate.steps.filter import Filter
from mmpt.data.curate.voices import Voice
from mmpt.data.sources import Source
from mmpt.document import Image, Speech, Text
from mmpt.errors import ConfigError
from mmpt.inference.rewriting import Rewriting

ROOT = Path(__file__).resolve().parents[2]
SPECS = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "datasets" / "specs").glob("*.yaml")}


@pytest.mark.parametrize(
    ("family", "name"),
    [(family, name) for family in (Source, Step, Rule, Voice) for name in family.names()],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_every_method_is_named_in_a_specification_and_says_where_it_comes_from(family, name):
    assert any(f"kind: {name}" in text for text in SPECS.values())
    method = family.member(name)
    assert method.kind == name and method.__doc__ != family.__doc__
    source = ("arXiv", "own", ".org", ".com", ".ai/")
    assert any(word in method.__doc__ for word in source), method.__doc__


@pytest.mark.parametrize("name", sorted(SPECS))
def test_the_specifications_are_read(name):
    path = ROOT / "datasets" / "specs" / name
    schemas = {"\nwriter:": Rewriting, "sources:": BuildConfig, "scorer:": ScoreConfig}
    schema = next((schema for key, schema in schemas.items() if key in SPECS[name]), Step)
    found = load_config(path, schema)
    if name == "sources.yaml":
        assert {source.kind for source in found.sources} == set(Source.names())
    elif isinstance(found, ScoreConfig):
        assert all(f"kind: {scorer}" in SPECS[name] for scorer in Scorer.names())
    elif isinstance(found, Step):
        assert f"kind: {found.kind}\n" in SPECS[name]


def test_a_rule_judges_a_type_of_parts_or_whole_documents():
    judged = {name: getattr(Rule.member(name), "judges", None) for name in Rule.names()}
    assert {Text, Image, Speech, None} == set(judged.values())
    for name, kind in judged.items():
        assert issubclass(Rule.member(name), DocumentRule if kind is None else PartRule)


def test_mistakes_in_a_list_of_methods_are_all_told_with_their_keys():
    rules = [{"kind": "image_size", "min_sides": 3}, {"kind": "imag_count"}, {"kind": "text_pattern", "pattern": "("}, {}]
    with pytest.raises(ConfigError) as caught:
        parse_config({"rules": rules}, Filter, "f")
    for said in (
        "rules.0.min_sides: unknown key, did you mean min_side?",
        "rules.1: no rule 'imag_count', did you mean image_count",
        "rules.2.pattern: no regular expression",
        "rules.3: kind: missing",
    ):
        assert said in str(caught.value)


def test_only_what_a_specification_names_is_imported():
    code = (
        "import json, sys; from mmpt.config import parse_config; from mmpt.data.build import BuildConfig\n"
        "from mmpt.data.curate.steps.filter import Filter\n"
        "parse_config({'sources': [{'kind': 'plain_text', 'path': 'x'}]}, BuildConfig, 'f')\n"
        "parse_config({'rules': [{'kind': 'license', 'keep': ['x']}]}, Filter, 'f')\n"
        "print(json.dumps([one for one in sys.modules if one.startswith('mmpt.data.')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = set(json.loads(done.stdout))
    sources = {f"mmpt.data.sources.{name}" for name in Source.names()}
    rules = {f"mmpt.data.curate.rules.{name}" for name in Rule.names()}
    assert imported & sources == {"mmpt.data.sources.plain_text", "mmpt.data.sources.shards"}  # steps read shards
    assert imported & rules == {"mmpt.data.curate.rules.license"}


def test_sources_come_one_after_the_other_and_are_what_they_are_alone(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(f"text of {name}")
    sources = [{"kind": "plain_text", "path": str(tmp_path / f"{name}.txt"), "name": name} for name in "ab"]
    config = parse_config({"sources": sources}, BuildConfig, "f")
    found = list(documents(config))
    assert [one.id for one in found] == ["a/a.txt", "b/b.txt"]
    assert found == [one for source in config.sources for one in source.documents()]
