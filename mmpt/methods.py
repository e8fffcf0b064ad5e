"""Families of methods: a family is a folder, a method is a file in it, its `kind` is the file's name.

    schedule: cosine
    schedule: {kind: wsd, decay_steps: 200}

A family is a direct subclass of `Method` in the `__init__.py` of its folder; a method is a subclass of the family in a file of
its own, `mmpt/training/schedules/wsd.py`, whose fields are its settings. A field of a schema of the family's type takes any of
them, and only the file that is named is imported. Files whose name starts with `_` are no methods. Another package adds a method
by an entry point of the family's folder, named for the method's file:

    [project.entry-points."mmpt.training.schedules"]
    sawtooth = "their_package.sawtooth"

After the registries of lm-evaluation-harness (loaded when asked for, near names told) and torchtitan (settings beside what they
set), without a list to keep.
"""

import difflib
import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Self

import pydantic
from pydantic_core import PydanticCustomError, core_schema

from mmpt.config import Schema


class Method(Schema):
    """Settings of a method, and what it does. `key`: under which key a YAML file names it; `default_kind`: which one is meant by
    a section without `kind`; both are the family's. `carries`: names of published systems (see `mmpt methods --papers`) that the
    method is, or makes possible."""

    kind: ClassVar[str] = ""
    carries: ClassVar[tuple[str, ...]] = ()
    key: ClassVar[str] = ""
    default_kind: ClassVar[str] = ""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls.kind = cls.__module__.rpartition(".")[2]

    @classmethod
    def names(cls) -> list[str]:
        """The kinds of this family, sorted: its files, and the entry points of other packages."""
        files = {module.name for module in pkgutil.iter_modules(importlib.import_module(cls.__module__).__path__)}
        return sorted({name for name in files if not name.startswith("_")} | set(_entries(cls.__module__)))

    @classmethod
    def member(cls, kind: str) -> type[Self]:
        """The class of a kind of this family. Raises `ValueError` where there is none, with the nearest name."""
        if kind not in cls.names():
            raise ValueError(cls._no_such(kind))
        entry = _entries(cls.__module__).get(kind)
        module = importlib.import_module(entry.value if entry else f"{cls.__module__}.{kind}")
        found = [
            one
            for one in vars(module).values()
            if isinstance(one, type) and issubclass(one, cls) and one.__module__ == module.__name__
        ]
        if len(found) != 1 or found[0].kind != kind:
            raise ValueError(
                f"{module.__name__}: expected one {cls.noun()} in a file {kind}.py, found {[one.__name__ for one in found]}"
            )
        return found[0]

    @classmethod
    def noun(cls) -> str:
        """What messages call a method of this family: `RowInitialization` is a row initialization."""
        return re.sub(r"(?<!^)(?=[A-Z])", " ", cls.__name__).lower()

    @classmethod
    def _no_such(cls, kind: str) -> str:
        near = difflib.get_close_matches(kind, cls.names(), 3)
        return f"no {cls.noun()} {kind!r}, " + (
            f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(cls.names())}"
        )

    @classmethod
    def meant_by(cls, value: object) -> type[Schema]:
        """The method that a section names; the family itself where it names none of them."""
        kind = value.get("kind", cls.default_kind) if isinstance(value, dict) else value
        return cls.member(kind) if isinstance(kind, str) and cls._is_family() and kind in cls.names() else cls

    @classmethod
    def _is_family(cls) -> bool:
        return cls.__module__ != __name__ and Method in cls.__bases__

    @classmethod
    def _chosen(cls, value: Any) -> Any:
        """The member that a YAML value names, checked. Mistakes inside it keep their keys: pydantic puts the field's before."""
        if isinstance(value, cls):
            return value
        options = {"kind": value} if isinstance(value, str) else value
        if not isinstance(options, dict):
            raise PydanticCustomError(
                "no_method", "expected the name of a {noun}, or a section with its kind", {"noun": cls.noun()}
            )
        kind = options.get("kind", cls.default_kind)
        if not kind:
            raise PydanticCustomError("no_method", "kind: missing, expected one of {names}", {"names": ", ".join(cls.names())})
        if kind not in cls.names():
            raise PydanticCustomError("unknown_method", "{message}", {"message": cls._no_such(str(kind))})
        return cls.member(kind).model_validate(options)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _without_kind(cls, value: Any) -> Any:
        """`kind` is no field: it says which class this is."""
        if not isinstance(value, dict) or "kind" not in value:
            return value
        if value["kind"] != cls.kind:
            raise PydanticCustomError("unknown_method", "kind: expected {kind}", {"kind": cls.kind})
        return {key: one for key, one in value.items() if key != "kind"}

    @pydantic.model_serializer(mode="wrap")
    def _with_kind(self, handler: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"kind": self.kind, **handler(self)}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: pydantic.GetCoreSchemaHandler) -> core_schema.CoreSchema:
        if not cls._is_family():
            return handler(source)
        return core_schema.no_info_plain_validator_function(
            cls._chosen,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value, info: value.model_dump(mode=info.mode, by_alias=info.by_alias, exclude_unset=info.exclude_unset),
                info_arg=True,
            ),
        )


@cache
def _entries(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}


def families() -> Iterator[type[Method]]:
    """Every family of mmpt, by the folders that have one, in the order of their names."""
    for module in pkgutil.walk_packages(importlib.import_module("mmpt").__path__, "mmpt."):
        if module.ispkg:
            package = importlib.import_module(module.name)
            yield from (
                one
                for one in list(vars(package).values())
                if isinstance(one, type) and Method in one.__bases__ and one.__module__ == module.name
            )
