"""Documents from a set of shards that was built before.

sources: [{kind: shards, folder: shards/train}]
"""

from pathlib import Path
from typing import Literal

from mmpt.config import Schema
from mmpt.data.lost import Documents
from mmpt.data.shards.manifest import parse_manifest
from mmpt.data.shards.salvage import read_shard
from mmpt.data.sources.base import Unit
from mmpt.data.store import Store
from mmpt.errors import ConfigError, DataError
from mmpt.storage import MANIFEST


class ShardsConfig(Schema):
    """The set in `folder`, a path or URL. Documents keep their ids and sources."""

    kind: Literal["shards"] = "shards"
    folder: str


def units(config: ShardsConfig) -> list[Unit]:
    """One for each shard."""
    return [Unit(shard, shard["bytes"]) for shard in _manifest(config.folder)["shards"]]


def read(config: ShardsConfig, unit: Unit) -> Documents:
    """The documents of a shard in order; a damaged one is listed."""
    return read_shard(Store(config.folder), _manifest(config.folder), unit.what)


def hashes(folder: str | Path) -> list[str]:
    """SHA-256 of each shard: what a set made from this one says in its manifest."""
    return [shard["sha256"] for shard in _manifest(folder)["shards"]]


def _manifest(folder: str | Path) -> dict:
    store = Store(folder)
    try:
        return parse_manifest(store.read(MANIFEST), store.path(MANIFEST), "documents")
    except DataError as problem:
        raise ConfigError(str(problem)) from None
