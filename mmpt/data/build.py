"""From a specification to document shards: the sources by name, and the loop that writes them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pydantic
from rich.progress import Progress

from mmpt.config import Schema
from mmpt.data.shards.write import ShardWriter
from mmpt.data.sources.recordings import RecordingsConfig, recordings
from mmpt.data.sources.spoken_scenes import SpokenScenesConfig, spoken_scenes
from mmpt.data.sources.sprites import SpritesConfig, sprites
from mmpt.document import Document

SourceConfig = Annotated[SpokenScenesConfig | RecordingsConfig | SpritesConfig, pydantic.Field(discriminator="kind")]
_SOURCES = {"spoken_scenes": spoken_scenes, "recordings": recordings, "sprites": sprites}


class BuildConfig(Schema):
    """Sources, read one after the other into one set of shards."""

    sources: tuple[SourceConfig, ...] = pydantic.Field(min_length=1)


def documents(config: BuildConfig) -> Iterator[Document]:
    """Every document of every source, in order."""
    for source in config.sources:
        yield from _SOURCES[source.kind](source)


def build(config: BuildConfig, folder: Path, progress: Progress, title: str) -> int:
    """Write the shards of `config` into `folder`; returns how many documents. Nothing is left behind after an error."""
    counts = [getattr(source, "count", None) for source in config.sources]  # a source without one is as long as its files are
    task = progress.add_task(title, total=None if None in counts else sum(counts))
    count = 0
    with ShardWriter(folder, built={"spec": config.model_dump(mode="json")}) as writer:
        for document in documents(config):
            writer.write(document)
            progress.advance(task)
            count += 1
    progress.update(task, total=count, completed=count)
    return count
