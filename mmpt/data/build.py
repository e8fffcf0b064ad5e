"""From a specification to document shards."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pydantic
from rich.progress import Progress

from mmpt.config import Schema
from mmpt.data.engine.run import RunConfig, Summary, write_set
from mmpt.data.lost import Lost
from mmpt.data.sources import Source
from mmpt.data.storable import storable
from mmpt.data.unit import Unit
from mmpt.document import Document


class BuildConfig(Schema):
    """What document shards are built from."""

    sources: tuple[Source, ...] = pydantic.Field(min_length=1)
    """Read one after the other into one set."""


class Piece(NamedTuple):
    """What a unit of a specification holds: the number of the source, and what that source's own unit holds."""

    source: int
    what: Any


def units(config: BuildConfig) -> list[Unit[Piece]]:
    """The units of every source, in order."""
    return [Unit(Piece(number, unit.what), unit.size) for number, source in enumerate(config.sources) for unit in source.units()]


def read(config: BuildConfig, unit: Unit[Piece]) -> Iterator[Document | Lost]:
    """The documents of one unit, as a shard can hold them."""
    return storable(config.sources[unit.what.source].read(Unit(unit.what.what, unit.size)))


def documents(config: BuildConfig) -> Iterator[Document | Lost]:
    """Every document of every source in order, read in this process, and between them what was lost."""
    for unit in units(config):
        yield from read(config, unit)


def build(
    config: BuildConfig,
    out: str | Path,
    run: RunConfig = RunConfig(),  # noqa: B008 (frozen)
    progress: Progress | None = None,
    title: str = "",
) -> Summary:
    """Write the shards of `config` as the set `out`; see `write_set` for what is promised."""
    return write_set(
        out,
        read=read,
        config=config,
        units=units(config),
        built={"spec": config.model_dump(mode="json")},
        run=run,
        progress=progress,
        title=title,
        sets=[folder for source in config.sources for folder in source.sets],
    )
