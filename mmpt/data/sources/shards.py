"""Documents from a set of shards that was built before.

sources: [{kind: shards, folder: shards/train}]
"""

from pathlib import Path

from mmpt.data.lost import Documents
from mmpt.data.shards.manifest import DocumentManifest, ShardEntry, read_manifest
from mmpt.data.shards.salvage import read_shard
from mmpt.data.sources import Source
from mmpt.data.store import Store
from mmpt.data.unit import Unit
from mmpt.errors import ConfigError, DataError


class Shards(Source):
    """A set of document shards that was built before: mmpt's own format. Documents keep their ids and sources."""

    folder: str
    """Path or URL of the set."""

    @property
    def sets(self) -> tuple[str, ...]:
        """This set."""
        return (self.folder,)

    def units(self) -> list[Unit[ShardEntry]]:
        """One for each shard."""
        return [Unit(shard, shard.bytes) for shard in _manifest(self.folder).shards]

    def read(self, unit: Unit[ShardEntry]) -> Documents:
        """The documents of a shard in order; a damaged one is listed."""
        return read_shard(Store(self.folder), _manifest(self.folder), unit.what)


def hashes(folder: str | Path) -> list[str]:
    """SHA-256 of each shard: what a set made from this one says in its manifest."""
    return [shard.sha256 for shard in _manifest(folder).shards]


def _manifest(folder: str | Path) -> DocumentManifest:
    try:
        return read_manifest(folder, DocumentManifest)
    except DataError as problem:
        raise ConfigError(str(problem)) from None
