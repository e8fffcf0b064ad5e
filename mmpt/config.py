"""Typed YAML configuration: one pydantic schema for each file, unknown keys refused, every mistake reported at once."""

from pathlib import Path
from typing import TypeVar

import pydantic
import yaml

from mmpt.errors import ConfigError


class Schema(pydantic.BaseModel):
    """Base of every configuration section: frozen, and an unknown key is an error."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


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
    content = read_yaml(path)
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator:
            raise ConfigError(f"{override}: expected KEY=VALUE")
        *parents, last = key.split(".")
        section = content
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ConfigError(f"{override}: {parent} is no section")
        section[last] = yaml.safe_load(value)
    return parse_config(content, schema, str(path))


def parse_config(content: dict, schema: type[S], name: str) -> S:
    """Validate a mapping against `schema`; `name` stands for it in messages."""
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


def _fields(schema: type, path: tuple) -> list[str]:
    for step in path:
        field = getattr(schema, "model_fields", {}).get(step)
        if field is None:
            return []
        schema = field.annotation
    return sorted(getattr(schema, "model_fields", {}))
