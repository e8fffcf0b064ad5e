"""A family is a folder, a method a file, its kind the file's name; a YAML section says which one and its settings."""

import sys
from importlib.metadata import EntryPoint

import pytest

from mmpt import methods
from mmpt.config import Schema, parse_config
from mmpt.errors import ConfigError

FAMILY = '''
from abc import abstractmethod
from typing import ClassVar

from mmpt.methods import Method

class StepRule(Method):
    """How far a step goes."""
    key: ClassVar[str] = "rule"
    default_kind: ClassVar[str] = "{default}"
    scale: float = 1.0

    @abstractmethod
    def at(self, step: int) -> float: ...
'''
FILES = {
    "constant.py": (
        'from {name} import StepRule\nclass Constant(StepRule):\n    """Always."""\n    def at(self, step):\n'
        "        return self.scale\n"
    ),
    "power.py": (
        'from {name} import StepRule\nclass Power(StepRule):\n    """Robbins and Monro 1951."""\n    exponent: float\n'
        "    def at(self, step):\n        return self.scale * step**-self.exponent\n"
    ),
    "_helper.py": "raise AssertionError('no method')\n",
}


@pytest.fixture
def family(tmp_path, monkeypatch, request):
    """A family of two methods in a package of its own."""
    name = f"zoo_{abs(hash(request.node.name))}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text(FAMILY.replace("{default}", getattr(request, "param", "")))
    for file, text in FILES.items():
        (folder / file).write_text(text.replace("{name}", name))
    monkeypatch.syspath_prepend(str(tmp_path))
    return __import__(name).StepRule


def schema_with(family) -> type[Schema]:
    return type("Run", (Schema,), {"__annotations__": {"steps": int, "rule": family, "more": list[family]}, "more": []})


def test_a_name_alone_and_a_section_are_read(family):
    run = schema_with(family)
    assert parse_config({"steps": 1, "rule": "constant"}, run, "f").rule.at(9) == 1.0
    parsed = parse_config({"steps": 1, "rule": {"kind": "power", "exponent": 2, "scale": 3}}, run, "f")
    assert parsed.rule.at(2) == 0.75 and parsed.rule.kind == "power"


def test_what_is_written_is_read_again(family):
    run = schema_with(family)
    parsed = parse_config({"steps": 1, "rule": {"kind": "power", "exponent": 2}, "more": ["constant"]}, run, "f")
    assert parsed.model_dump(mode="json", exclude_unset=True)["rule"] == {"kind": "power", "exponent": 2.0}
    assert parse_config(parsed.model_dump(mode="json"), run, "f") == parsed


def test_only_the_named_file_is_imported(family):
    parse_config({"steps": 1, "rule": "constant"}, schema_with(family), "f")
    assert f"{family.__module__}.constant" in sys.modules and f"{family.__module__}.power" not in sys.modules


def test_every_mistake_is_told_at_once_with_its_whole_key(family):
    content = {
        "steps": "x",
        "rule": {"kind": "powr"},
        "more": [{"kind": "power", "exponent": "y", "scal": 1}, {"scale": 1}, 3, {"kind": "power", "exponnt": 1}],
    }
    with pytest.raises(ConfigError) as caught:
        parse_config(content, schema_with(family), "f")
    said = str(caught.value).splitlines()
    for start, rest in {
        "steps": "integer",
        "rule": "no step rule 'powr', did you mean power?",
        "more.0.exponent": "number",
        "more.0.scal": "unknown key, did you mean scale?",
        "more.1": "kind: missing, expected one of constant, power",
        "more.2": "expected the name of a step rule",
        "more.3.exponnt": "unknown key, did you mean exponent?",
    }.items():
        assert any(line.strip().startswith(f"{start}: ") and rest in line for line in said), (start, said)
    assert len(said) == 8  # the first line counts; that `exponent` is missing in more.3 follows from what is told


@pytest.mark.parametrize("family", ["constant"], indirect=True)
def test_a_family_may_have_a_method_that_a_section_without_kind_means(family):
    assert parse_config({"steps": 1, "rule": {"scale": 2}}, schema_with(family), "f").rule.at(5) == 2.0


def test_a_method_itself_as_the_type_of_a_field_takes_its_kind_and_no_other(family):
    power = family.member("power")
    schema = type("Run", (Schema,), {"__annotations__": {"rule": power}})
    assert parse_config({"rule": {"kind": "power", "exponent": 1}}, schema, "f").rule == power(exponent=1)
    with pytest.raises(ConfigError, match="kind: expected power"):
        parse_config({"rule": {"kind": "constant", "exponent": 1}}, schema, "f")


def test_another_package_adds_a_method_by_an_entry_point(family, tmp_path, monkeypatch):
    (tmp_path / "their_rules").mkdir()
    text = FILES["constant.py"].replace("{name}", family.__module__).replace("Constant", "Halving").replace("self.scale", "0.5")
    (tmp_path / "their_rules" / "halving.py").write_text(text)
    entry = EntryPoint("halving", "their_rules.halving", family.__module__)
    monkeypatch.setattr(methods, "_entries", lambda group: {"halving": entry} if group == family.__module__ else {})
    assert family.names() == ["constant", "halving", "power"]
    assert parse_config({"steps": 1, "rule": "halving"}, schema_with(family), "f").rule.at(1) == 0.5
