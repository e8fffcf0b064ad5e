"""Typed YAML configuration: one pydantic schema for each file, unknown keys refused, every mistake reported at once."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import pydantic
import yaml

from mmpt.errors import ConfigError


class Schema(pydantic.BaseModel):
    """Base of every configuration section: frozen, and an unknown key or a number that is not finite is an error."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def meant_by(cls, value: object) -> type["Schema"]:
        """The schema of a section that stands where this one is expected; a family of methods has one for each method."""
        return cls


def _expression(value: str) -> str:
    try:
        return re.compile(value).pattern
    except re.error as problem:
        raise ValueError(f"no regular expression ({problem})") from None


Expression = Annotated[str, pydantic.AfterValidator(_expression)]
"""The text of a regular expression."""
S = TypeVar("S", bound=pydantic.BaseModel)


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


def load_config(path: Path, schema: type[S], overrides: Sequence[str] = ()) -> S:
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
    """`content` with `changes`: sections key by key, as deep as they go; everything else, and an empty section, replaces. So does
    a section of another `kind`, whose settings are not those of the first."""
    found = dict(content)
    for key, value in changes.items():
        sections = isinstance(value, dict) and value and isinstance(found.get(key), dict)
        sections = sections and value.get("kind", found[key].get("kind")) == found[key].get("kind")
        found[key] = merged(found[key], value) if sections else value
    return found


def parse_config(content: dict, schema: type[S], name: str) -> S:
    """Validate a mapping against `schema`; `name` stands for it in messages."""
    if odd := _odd_keys(content):
        raise ConfigError(f"{name}: expected keys of text, found {', '.join(odd)}")
    try:
        return schema.model_validate(content)
    except pydantic.ValidationError as problem:
        lines = _lines(problem.errors(), content, schema)
        raise ConfigError(f"{name}: {len(lines)} mistake{'s' if len(lines) > 1 else ''}\n  " + "\n  ".join(lines)) from None


def _odd_keys(value: object) -> list[str]:
    """Keys that YAML read as numbers, dates or truth values, anywhere in `value`."""
    if isinstance(value, dict):
        return [repr(key) for key in value if not isinstance(key, str)] + [
            odd for one in value.values() for odd in _odd_keys(one)
        ]
    return [odd for one in value for odd in _odd_keys(one)] if isinstance(value, list) else []


def _lines(errors: Sequence[Any], content: dict[str, Any], schema: type) -> list[str]:
    """One for each mistake: what follows from another is left out."""
    lines, meant = {}, set()
    inner = {error["loc"][:length] for error in errors for length in range(len(error["loc"]))}
    for error in errors:
        loc, kind = error["loc"], error["type"]
        keys, section, other = _place(loc, content, schema)
        name = ".".join(map(str, keys)) or "(top level)"
        if other or (kind in ("too_short", "value_error") and loc in inner):  # a list of wrong entries is not too short as well
            continue
        if kind == "extra_forbidden":
            lines[keys] = f"{name}: {_unknown(str(loc[-1]), _fields(schema, loc[:-1], content), meant, keys[:-1])}"
            continue
        lines[keys] = f"{name}: {_wording(error)}"
        if kind == "union_tag_invalid" and isinstance(section, dict):  # of which kind is not known, but some keys are in none
            known = sorted({field for one in _kinds(schema, loc, content) for field in _fields(one, (), None)})
            for key in [key for key in section if key not in known and known]:
                lines[*keys, key] = f"{name}.{key}: {_unknown(str(key), known, meant, keys)}"
    return [line for keys, line in lines.items() if not (keys in meant and line.endswith(": missing"))]


def _unknown(key: str, known: list[str], meant: set[tuple], section: tuple) -> str:
    """Adds to `meant` the key that was meant: it is then not told as missing, too."""
    close = difflib.get_close_matches(key, known, n=1)
    meant |= {(*section, one) for one in close}
    listed = f" (known here: {', '.join(known)})" if known and (not close or len(known) <= 12) else ""
    return "unknown key" + _did_you_mean(close) + listed


def _wording(error: dict) -> str:
    context, found = error.get("ctx", {}), error["input"]
    if error["type"] == "missing":
        return "missing"
    if error["type"] == "union_tag_not_found":
        return f"{context['discriminator'].strip(chr(39))}: missing"
    if error["type"] == "too_short":
        return f"expected at least {context['min_length']}, found {context['actual_length']}"
    if error["type"] in ("union_tag_invalid", "literal_error"):
        known = re.findall(r"'([^']*)'", context.get("expected_tags") or context["expected"])
        found = context.get("tag", found)
        close = _did_you_mean(difflib.get_close_matches(str(found), known, n=1))
        what = f"{context['discriminator'].strip(chr(39))}: " if "tag" in context else ""
        return f"{what}expected one of {', '.join(known)}, found {found!r}{close}"
    return f"{error['msg'].removeprefix('Value error, ')}" + ("" if isinstance(found, dict) else f", found {found!r}")


def _did_you_mean(close: Sequence[str]) -> str:
    return f", did you mean {close[0]}?" if close else ""


def _place(loc: tuple, content: object, schema: type) -> tuple[tuple, object, bool]:
    """(The keys in the file that lead to `loc`, what stands there, whether it is of a member of a union that was hardly meant).

    pydantic names the member of a union among the keys: by its tag, or by its class where there is none.
    """
    keys: list[str | int] = []
    at: Any = content
    for number, step in enumerate(loc):
        members = _members(schema, loc[:number], content)
        if isinstance(step, str) and step in {name for names in members.values() for name in names}:
            chosen = next(one for one, names in members.items() if step in names)
            if step == chosen.__name__ and isinstance(at, dict):
                best = max(members, key=lambda one: len(set(at) & set(_fields(one, (), None))))
                if best is not chosen:
                    return tuple(keys), at, True
            continue
        keys.append(step)
        at = _at(at, step)
    return tuple(keys), at, False


def _members(schema: object, path: tuple, at: object) -> dict[type, set[str]]:
    """The models of the union at `path`, and by what names pydantic calls each; empty where there is but one."""
    found = _kinds(schema, path, at)
    if len(found) < 2:
        return {}
    named = {one: {one.__name__} for one in found}
    for one in found:
        for key in {"kind", "rule"} & set(one.model_fields):
            named[one] |= set(get_args(one.model_fields[key].annotation))
    return named


def _kinds(schema: object, path: tuple, at: object) -> list[type]:
    """The models that may stand at `path` of the content `at`: of a union all its members, of a family of methods the one that
    is named there."""
    arguments = get_args(schema)
    if get_origin(schema) is Annotated:
        return _kinds(arguments[0], path, at)
    if get_origin(schema) in (Union, UnionType):
        if path and isinstance(path[0], str):
            members = _members(schema, (), at)
            named = [one for one, names in members.items() if path[0] in names]
            if named:
                return [kind for one in named for kind in _kinds(one, path[1:], at)]
        return [kind for one in arguments for kind in _kinds(one, path, at)]
    if arguments:  # list[…], tuple[…, ...], dict[str, …]
        inner = _at(at, path[0]) if path else None
        return [kind for one in arguments if one is not Ellipsis for kind in _kinds(one, path[1:], inner)] if path else []
    if not isinstance(schema, type) or not issubclass(schema, pydantic.BaseModel):
        return []
    if issubclass(schema, pydantic.RootModel):
        return _kinds(schema.model_fields["root"].rebuild_annotation(), path, at)
    meant = schema.meant_by(at) if issubclass(schema, Schema) else schema
    if not path:
        return [meant]
    field = next((field for name, field in meant.model_fields.items() if path[0] in (name, field.alias)), None)
    return _kinds(field.annotation, path[1:], _at(at, path[0])) if field is not None else []


def _at(content: Any, key: Any) -> Any:
    try:
        return content[key]
    except (KeyError, IndexError, TypeError):
        return None


def _fields(schema: object, path: tuple, at: object) -> list[str]:
    """The keys that may stand in the section at `path`."""
    return sorted({field.alias or name for kind in _kinds(schema, path, at) for name, field in kind.model_fields.items()})
