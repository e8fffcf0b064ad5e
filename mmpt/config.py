"""Typed YAML configuration: one pydantic schema for each file, unknown keys refused, every mistake reported at once."""

from pathlib import Path
from typing import TypeVar

import pydantic
import yaml

from mmpt.errors import ConfigError


class Schema(pydantic.BaseModel):
    """Base of every configuration section: frozen, and an unknown key or a number that is not finite is an error."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=Schema)


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file (safe loader). Raises `ConfigError` naming the file."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{path}: cannot be read ({problem})") from None
    except yaml.YAMLError as problem:
        raise ConfigError(f"{path}: not valid YAML: {problem}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values, found {type(content).__name__}")
    return content


def load_config(path: Path, schema: type[S], overrides: list[str] = ()) -> S:
    """Read `path` into `schema`. `overrides` are `key.key=value` strings, the value in YAML, applied on top of the file.

    Raises `ConfigError` with one line for each mistake: file, key, what was expected.
    """
    content, problems = read_yaml(path), []
    for override in overrides:
        try:
            _override(content, override)
        except ValueError as problem:
            problems.append(f"{override}: {problem}")
    if problems:
        raise ConfigError("\n".join(problems))
    return parse_config(content, schema, str(path))


def _override(content: dict, override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise ValueError("expected KEY=VALUE")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise ValueError(f"the value is not valid YAML ({' '.join(str(problem).split())})") from None
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise ValueError(f"{parent} is no section")
    content[last] = value


def merged(content: dict, changes: dict) -> dict:
    """`content` with `changes`: sections key by key, as deep as they go; everything else, and an empty section, replaces."""
    found = dict(content)
    for key, value in changes.items():
        sections = isinstance(value, dict) and value and isinstance(found.get(key), dict)
        found[key] = merged(found[key], value) if sections else value
    return found


def parse_config(content: dict, schema: type[S], name: str) -> S:
    """Validate a mapping against `schema`; `name` stands for it in messages."""
    if odd := _odd_keys(content):
        raise ConfigError(f"{name}: expected keys of text, found {', '.join(odd)}")
    try:
        return schema.model_validate(content)
    except pydantic.ValidationError as problem:
        lines = []
        for error in problem.errors():
            key = ".".join(str(step) for step in error["loc"]) or "(top level)"
            if error["type"] == "extra_forbidden":
                known = _fields(schema, error["loc"][:-1])
                lines.append(f"{key}: unknown key" + (f" (known here: {', '.join(known)})" if known else ""))
            elif error["type"] == "missing":
                lines.append(f"{key}: missing")
            else:
                found = "" if isinstance(error["input"], dict) else f", found {error['input']!r}"
                lines.append(f"{key}: {error['msg'].removeprefix('Value error, ')}{found}")
        raise ConfigError(f"{name}: {len(lines)} mistake{'s' if len(lines) > 1 else ''}\n  " + "\n  ".join(lines)) from None


def _odd_keys(value: object) -> list[str]:
    """Keys that YAML read as numbers, dates or truth values, anywhere in `value`."""
    if isinstance(value, dict):
        return [repr(key) for key in value if not isinstance(key, str)] + [
            odd for one in value.values() for odd in _odd_keys(one)
        ]
    return [odd for one in value for odd in _odd_keys(one)] if isinstance(value, list) else []


def _fields(schema: type, path: tuple) -> list[str]:
    for step in path:
        field = getattr(schema, "model_fields", {}).get(step)
        if field is None:
            return []
        schema = field.annotation
    return sorted(getattr(schema, "model_fields", {}))
