"""What a step works on: document sets, cut into their shards."""

from dataclasses import dataclass
from typing import Any

from mmpt.config import Schema
from mmpt.data.lost import Documents
from mmpt.data.shards.manifest import ShardEntry
from mmpt.data.sources.shards import Shards
from mmpt.data.unit import Unit


@dataclass(frozen=True)
class Portion:
    """A shard, by the number of its set. `told` is what the step has to know of it (see `Step.prepare`): JSON values."""

    folder: int
    shard: ShardEntry
    told: Any = None


class ShardSets(Schema):
    """Sets of document shards, one after the other."""

    folders: tuple[str, ...]
    """Paths or URLs of the sets."""

    def units(self) -> list[Unit[Portion]]:
        """One for each shard. Raises `ConfigError` where a folder is no set of document shards."""
        return [
            Unit(Portion(number, unit.what), unit.size)
            for number, folder in enumerate(self.folders)
            for unit in Shards(folder=folder).units()
        ]

    def documents(self, unit: Unit[Portion]) -> Documents:
        """The documents of a shard in order; a damaged one is listed."""
        return Shards(folder=self.folders[unit.what.folder]).read(Unit(unit.what.shard, unit.size))
