"""Units: the pieces of work that a source or a step is cut into before anything is read."""

import json
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Generic, TypeVar

import pydantic

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
UNIT_BYTES = 64 << 20
"""Bytes of a unit, about."""
UNIT_ITEMS = 1000
"""Items of a unit at most."""


@dataclass(frozen=True)
class Unit(Generic[T_co]):
    """A piece of work: `what` says to a reader which one, `size` is about how many bytes will come of it.

    `what` holds JSON values, in lists, dictionaries, named tuples, dataclasses or schemas: a plan is compared with the one of a
    run that was stopped by their JSON (`mmpt.data.engine.run`), and it goes to other processes and machines.
    """

    what: T_co
    size: int


def grouped(items: Iterable[tuple[T, int]], max_bytes: int = UNIT_BYTES, max_items: int = UNIT_ITEMS) -> list[Unit[list[T]]]:
    """Units of consecutive (item, bytes) pairs: `what` is the list of items. An item larger than the limit stands alone."""
    units: list[Unit[list[T]]] = []
    group: list[T] = []
    total = 0
    for item, size in items:
        if group and (total + size > max_bytes or len(group) == max_items):
            units.append(Unit(group, total))
            group, total = [], 0
        group.append(item)
        total += size
    return [*units, Unit(group, total)] if group else units


def plain(value: object) -> object:
    """A set, dataclass or schema as JSON has it, for `json.dumps(default=plain)`.

    A field that is None where it may be left out is left out, so that a plan says no more than it must.
    """
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value):
        return {
            one.name: getattr(value, one.name)
            for one in fields(value)
            if one.default is MISSING or getattr(value, one.name) is not None
        }
    raise TypeError(f"{type(value).__name__} is nothing that a plan holds")


def told(what: object) -> str:
    """`what` of a unit in a message: the beginning of its JSON."""
    return json.dumps(what, ensure_ascii=False, default=plain)[:300]
