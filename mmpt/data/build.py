"""From a specification to document shards."""

from pathlib import Path

import pydantic
from rich.progress import Progress

from mmpt.config import Schema
from mmpt.data.engine.run import RunConfig, Summary, write_set
from mmpt.data.lost import Documents
from mmpt.data.sources.base import Unit
from mmpt.data.sources.registry import MODULES, SourceConfig
from mmpt.data.storable import storable


class BuildConfig(Schema):
    """Sources, read one after the other into one set of shards."""

    sources: tuple[SourceConfig, ...] = pydantic.Field(min_length=1)


def units(config: BuildConfig) -> list[Unit]:
    """The units of every source, in order; `what` is [number of the source, the source's own]."""
    return [
        Unit([number, unit.what], unit.size)
        for number, source in enumerate(config.sources)
        for unit in MODULES[source.kind].units(source)
    ]


def read(config: BuildConfig, unit: Unit) -> Documents:
    """The documents of one unit, as a shard can hold them."""
    number, what = unit.what
    source = config.sources[number]
    return storable(MODULES[source.kind].read(source, Unit(what, unit.size)))


def documents(config: BuildConfig) -> Documents:
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
    )
