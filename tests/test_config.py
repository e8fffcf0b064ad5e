"""A configuration reports every mistake at once, with file, key and what was expected."""

from typing import Annotated, Literal

import pydantic
import pytest

from mmpt.config import Schema, load_config, merged, parse_config
from mmpt.errors import ConfigError


class Inner(Schema):
    size: int
    name: str = "x"


class Outer(Schema):
    rate: float
    inner: Inner


def write(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def test_values_and_overrides(tmp_path):
    path = write(tmp_path, "rate: 1\ninner: {size: 2}\n")
    assert load_config(path, Outer) == Outer(rate=1.0, inner=Inner(size=2))
    assert load_config(path, Outer, ["inner.size=7", "rate=0.5"]) == Outer(rate=0.5, inner=Inner(size=7))


def test_all_mistakes_come_at_once(tmp_path):
    path = write(tmp_path, "rate: fast\ninner: {sise: 2}\nspeed: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, Outer)
    message = str(caught.value)
    assert "config.yaml: 3 mistakes" in message
    for expected in (
        "rate: ",
        "'fast'",
        "speed: unknown key",
        "inner.sise: unknown key, did you mean size? (known here: name, size)",
        "speed: unknown key",
    ):
        assert expected in message


@pytest.mark.parametrize("text", ["- a\n", "a: [\n", ""])
def test_no_mapping_is_an_error_naming_the_file(tmp_path, text):
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        load_config(write(tmp_path, text), Outer)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sources=[1", "sources=.1: the value is not valid YAML"),
        ("rate", "expected KEY=VALUE"),
        ("rate.x=1", "rate is no section"),
    ],
)
def test_broken_overrides_are_answered_all_at_once(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(write(tmp_path, "rate: 1\n"), Outer, [override, "also"])
    assert "also: expected KEY=VALUE" in str(caught.value)


def test_keys_that_are_no_text_and_numbers_without_an_end_are_mistakes(tmp_path):
    with pytest.raises(ConfigError, match="keys of text, found 1, True"):
        load_config(write(tmp_path, "1: a\ninner: {yes: 2}\n"), Outer)
    with pytest.raises(ConfigError, match="finite"):
        load_config(write(tmp_path, "rate: .inf\ninner: {size: 1}\n"), Outer)


def test_sections_are_merged_as_deep_as_they_go_and_an_empty_one_replaces():
    content = {"a": {"b": {"c": 1, "d": 2}, "e": [1]}, "f": 1}
    assert merged(content, {"a": {"b": {"c": 3}, "e": [2]}}) == {"a": {"b": {"c": 3, "d": 2}, "e": [2]}, "f": 1}
    assert merged(content, {"a": {}, "f": {"g": 1}}) == {"a": {}, "f": {"g": 1}}
    assert content["a"]["b"]["c"] == 1


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load_config(tmp_path / "none.yaml", Outer)


def test_yaml_cannot_build_python_objects(tmp_path):
    with pytest.raises(ConfigError):
        load_config(write(tmp_path, "rate: !!python/object/apply:os.getcwd []\n"), Outer)


class Round(Schema):
    kind: Literal["round"]
    radius: float


class Square(Schema):
    kind: Literal["square"]
    side: float
    angle: float = 0.0


class Shapes(Schema):
    shapes: tuple[Annotated[Round | Square, pydantic.Field(discriminator="kind")], ...] = pydantic.Field(min_length=1)
    frame: Round | Square | None = None


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (  # a kind misspelt twice is two mistakes, not also a list that is too short; a key that is in no kind is told beside it
            {"shapes": [{"kind": "sqare", "side": 1, "angel": 2}, {"kind": "sqare", "side": 1}]},
            [
                "shapes.0: kind: expected one of round, square, found 'sqare', did you mean square?",
                "shapes.0.angel: unknown key, did you mean angle? (known here: angle, kind, radius, side)",
                "shapes.1: kind: expected one of round, square, found 'sqare', did you mean square?",
            ],
        ),
        ({"shapes": []}, ["shapes: expected at least 1, found 0"]),
        (  # a key that is misspelt is not missing as well
            {"shapes": [{"kind": "round", "radios": 1}]},
            ["shapes.0.radios: unknown key, did you mean radius? (known here: kind, radius)"],
        ),
        (  # of a union without a tag, the member that was meant
            {"shapes": [{"kind": "round", "radius": 1}], "frame": {"kind": "square", "side": "long"}},
            ["frame.side: Input should be a valid number, unable to parse string as a number, found 'long'"],
        ),
        ({"shapes": [{"radius": 1}]}, ["shapes.0: kind: missing"]),
    ],
)
def test_one_mistake_is_told_once_and_what_was_meant(content, lines):
    with pytest.raises(ConfigError) as caught:
        parse_config(content, Shapes, "f.yaml")
    assert str(caught.value).splitlines()[1:] == [f"  {line}" for line in lines]
