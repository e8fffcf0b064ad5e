"""What every source is: a configuration, a cheap list of units of work, and a function that reads one of them.

A module of this folder has three things of these names or forms:

    class XConfig(SourceSchema)                        # `kind: Literal["x"]` and whatever it needs, documented
    def units(config: XConfig) -> list[Unit]           # the work in order; lists and stats files, reads tables, no media
    def read(config: XConfig, unit: Unit) -> Documents # the documents of one unit, and what was lost in it

A unit is read in any process, at any time, more than once: the same documents must come every time. Mistakes in the
specification are `ConfigError`s from `units`; bad data is never an error but a `Lost`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from mmpt.config import Schema

UNIT_BYTES = 64 << 20
UNIT_ITEMS = 1000


class SourceSchema(Schema):
    """`name` is the `source` of the documents, and stands before their ids; by default what `source_name` makes of the place."""

    name: str = ""


@dataclass(frozen=True)
class Unit:
    """A piece of work: `what` (JSON values) says to `read` which one, `size` is about how many bytes will come of it."""

    what: dict | list | str | int
    size: int


def source_name(config: SourceSchema, location: str) -> str:
    """The name given, else the last step of the path or URL."""
    return config.name or location.rstrip("/").rsplit("/", 1)[-1]


def grouped(items: Iterable[tuple[object, int]], max_bytes: int = UNIT_BYTES, max_items: int = UNIT_ITEMS) -> list[Unit]:
    """Units of consecutive (item, bytes) pairs: `what` is the list of items. An item larger than the limit stands alone."""
    units: list[Unit] = []
    group: list = []
    total = 0
    for item, size in items:
        if group and (total + size > max_bytes or len(group) == max_items):
            units.append(Unit(group, total))
            group, total = [], 0
        group.append(item)
        total += size
    return [*units, Unit(group, total)] if group else units
