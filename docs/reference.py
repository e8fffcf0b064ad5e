"""Write the pages that are made from the code: docs/configuration.md, every key of every YAML file with its type, default and
meaning, and docs/methods.md, every method with its source and the published systems that methods carry.

    python docs/reference.py            # write them
    python docs/reference.py --check    # exit code 1 where they are not what the code says
"""

import ast
import enum
import importlib
import inspect
import sys
import types
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import RootModel
from pydantic_core import PydanticUndefined

from mmpt.catalogue import markdown, methods_table, papers_table
from mmpt.config import Schema
from mmpt.methods import Method
from mmpt.scripts import main_guard, script_parser
from mmpt.training.tokenizer_list import tokenizers_table

FOLDER = Path(__file__).parent
FILES = {
    "recipes/train.py": "mmpt.training.config:TrainingConfig",
    "tokenizers/train.py": "mmpt.training.specs:TokenizerSpec",
    "tokenizers/import.py": "mmpt.tokenizers.published_folder:ImportSpec",
    "datasets/build.py": "mmpt.data.build:BuildConfig",
    "datasets/filter.py": "mmpt.data.curate.steps.filter:Filter",
    "datasets/score.py": "mmpt.data.curate.scoring:ScoreConfig",
    "datasets/select_documents.py": "mmpt.data.curate.steps.select:Select",
    "datasets/interleave.py": "mmpt.data.curate.steps.interleave:Interleave",
    "datasets/compose.py": "mmpt.data.curate.steps.compose:Compose",
    "datasets/rewrite.py": "mmpt.inference.rewriting:Rewriting",
    "datasets/to_tokens.py": "mmpt.data.curate.steps.to_tokens:ToTokens",
    "recipes/evaluate.py": "mmpt.evaluation.suite:SuiteConfig",
    "recipes/improve.py": "mmpt.improvement.config:ImproveConfig",
}
"""Each command that reads a YAML file, and the schema of that file."""


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check, old = parser.parse_args().check, []
    for name, text in pages().items():
        path = FOLDER / name
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            old.append(f"{path}: not what the code says")
    if old:
        sys.exit("\n".join([*old, "run python docs/reference.py"]))


def pages() -> dict[str, str]:
    """The text of each page by its file's name."""
    return {"configuration.md": configuration(), "methods.md": methods()}


def methods() -> str:
    """Every family's methods, and the published systems."""
    return "\n\n".join(
        [
            "# Methods",
            "Made by `python docs/reference.py` from the files; `mmpt methods` prints it.",
            markdown(methods_table()),
            "## Tokenizers",
            "Published ones as they were released, and those of the specifications in `tokenizers/`; `mmpt tokenizers` prints "
            "them. Codes are those of all codebooks together; bits those of a second of speech, or of a picture.",
            markdown(tokenizers()),
            "## Published systems",
            "Which of them can be had here, and by what. Where nothing carries a system in whole, its status is `part`.",
            markdown(papers_table()) + "\n",
        ]
    )


def tokenizers() -> list[tuple[str, ...]]:
    """The table of tokenizers, its specifications named from the root of the repository."""
    root = FOLDER.parent
    rows = tokenizers_table(sorted((root / "tokenizers").glob("*.yaml")))
    return [(name.removeprefix(f"{root}/"), *rest) for name, *rest in rows]


def configuration() -> str:
    """The whole page: the files, then the sections they share, then the families."""
    parts = [
        "# Configuration: every key\n\n"
        "Made by `python docs/reference.py` from the schemas. A key without a default must be given; any key can be set on "
        "the command line, `key.key=value`. What is wrong in a file is told before anything starts, all at once.\n"
    ]
    seen: dict[type[Schema], str] = {}
    families: dict[type[Method], None] = {}
    waiting: list[tuple[str, type[Schema]]] = []
    for command, place in FILES.items():
        module, _, name = place.partition(":")
        for schema in schemas(getattr(importlib.import_module(module), name)):
            waiting.append((f"`{command}`: {schema.__name__}", schema))
    while waiting:
        title, schema = waiting.pop(0)
        if schema in seen:
            continue
        seen[schema] = title
        parts.append(section(title, schema))
        for inner in inner_schemas(schema):
            if issubclass(inner, Method) and Method in inner.__bases__:
                families.setdefault(inner)
            else:
                waiting.append((inner.__name__, inner))
    done: set[type[Method]] = set()
    while todo := [one for one in families if one not in done]:
        family = todo[0]
        done.add(family)
        parts.append(f"## {family.__name__} (`{family.key}`)\n\n{summary(family)}\n")
        for kind in family.names():
            method = family.member(kind)
            parts.append(section(f"`{family.key}: {kind}`", method, "###"))
            for inner in inner_schemas(method):
                if issubclass(inner, Method) and Method in inner.__bases__:
                    families.setdefault(inner)
                elif inner not in seen:
                    seen[inner] = inner.__name__
                    parts.append(section(inner.__name__, inner, "###"))
    return "\n".join(parts)


def section(title: str, schema: type[Schema], level: str = "##") -> str:
    """A heading, what the schema is, and a table of its keys."""
    known = defaultdict(str, meanings(schema))
    rows = [
        f"| `{field.alias or name}` | {escaped(type_name(field.annotation))} | {default(field)} | {escaped(known[name])} |"
        for name, field in schema.model_fields.items()
    ]
    table = ["| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows, ""] if rows else ["No keys.", ""]
    return "\n".join([f"{level} {title}", "", summary(schema), "", *table])


def summary(schema: type[Schema]) -> str:
    return inspect.cleandoc(schema.__doc__ or "")


def escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def default(field: Any) -> str:
    """A field's default as YAML has it."""
    if field.is_required():
        return "–"
    value = field.default if field.default is not PydanticUndefined else field.default_factory()
    return f"`{plain(value)}`"


def plain(value: Any) -> str:
    if isinstance(value, Method):
        return value.kind
    if isinstance(value, Schema):
        return "{}"
    if isinstance(value, enum.Enum):
        return str(value.value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(plain, value))}]"
    return "{}" if value == {} else str(value)


def type_name(annotation: Any) -> str:
    """A type as a reader of YAML would call it; schemas and families by their names."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_name(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_name(one) for one in arguments))
    if origin is Literal:
        return " or ".join(f"`{plain(one)}`" for one in arguments)
    if origin in (list, tuple) or annotation in (list, tuple):
        inner = list(dict.fromkeys(type_name(one) for one in arguments if one is not Ellipsis))
        return f"list of {' or '.join(inner)}" if inner else "list"
    if origin is dict or annotation is dict:
        known = arguments and arguments[1] is not Any
        return f"section of {type_name(arguments[1])} by {type_name(arguments[0])}" if known else "section"
    if annotation is type(None):
        return "null"
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Path": "path"}
    name = getattr(annotation, "__name__", str(annotation))
    return (
        f"[{name}](#{anchor(annotation)})"
        if inspect.isclass(annotation) and issubclass(annotation, Schema)
        else names.get(name, name)
    )


def anchor(schema: type[Schema]) -> str:
    if issubclass(schema, Method) and Method in schema.__bases__:
        return f"{schema.__name__}-{schema.key}".lower()
    return schema.__name__.lower()


def schemas(annotation: Any) -> Iterator[type[Schema]]:
    """The schemas that an annotation holds, however deep."""
    if inspect.isclass(annotation) and issubclass(annotation, RootModel):
        yield from schemas(annotation.model_fields["root"].annotation)
    elif inspect.isclass(annotation) and issubclass(annotation, Schema):
        yield annotation
    for one in get_args(annotation):
        yield from schemas(one)


def inner_schemas(schema: type[Schema]) -> Iterator[type[Schema]]:
    for field in schema.model_fields.values():
        yield from schemas(field.annotation)


@cache
def meanings(schema: type) -> dict[str, str]:
    """The docstring under each field of a schema and of what it inherits from."""
    found: dict[str, str] = {}
    for one in reversed(schema.__mro__):
        if issubclass(one, Schema) and one is not Schema:
            found |= own_meanings(one)
    return found


@cache
def own_meanings(schema: type) -> dict[str, str]:
    tree = parsed(inspect.getsourcefile(schema) or "")
    body = next((node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == schema.__name__), [])
    pairs = zip(body, body[1:], strict=False)
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairs
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


@cache
def parsed(path: str) -> ast.Module:
    return ast.parse(Path(path).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
