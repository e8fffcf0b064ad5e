"""Where the figures of a run go beside its own files; each tracker is the client of a published one."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from mmpt.errors import CheckpointError
from mmpt.methods import Method
from mmpt.storage import read_json, write_json

IDS = "trackers.json"


class Tracking(Protocol):
    """A tracker at work. Steps may come again, where a run went on from before them."""

    def figures(self, step: int, values: Mapping[str, float]) -> object:
        """Figures after step `step`, by names like `nll/text`."""
        ...

    def samples(self, step: int, page: str) -> object:
        """Samples of step `step`: an HTML page that loads nothing."""
        ...

    def close(self) -> object:
        """Nothing more will be told."""
        ...


class Tracker(Method):
    """Settings of a tracker. It works on the first rank alone, and a run that goes on is the same run there."""

    key: ClassVar[str] = "trackers"

    @abstractmethod
    def start(self, run: Path, settings: Mapping[str, Any], resumed_step: int) -> Tracking:
        """Begin, or go on after `resumed_step`, for the folder `run`, of which a recipe's `settings` are told. Raises
        `ConfigError` where its package is missing."""


def remembered(run: Path, kind: str, make: Callable[[], str]) -> str:
    """The id that `make` gave the first time for a tracker of `kind`, kept in `run`/trackers.json."""
    path = run / IDS
    known = read_json(path, CheckpointError) if path.exists() else {}
    if kind not in known:
        known[kind] = make()
        write_json(path, known)
    return known[kind]
