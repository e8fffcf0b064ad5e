"""Weights & Biases."""

import importlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from mmpt.errors import ConfigError
from mmpt.training.trackers import Tracker, Tracking, remembered


class Wandb(Tracker):
    """A run of Weights & Biases (wandb/wandb), its files in OUTPUT/wandb; `wandb sync` sends those of an offline one."""

    project: str = "mmpt"
    """The project."""
    entity: str | None = None
    """The user or team; null: the account's own."""
    name: str | None = None
    """What the run is called; null: the name of its folder."""
    mode: Literal["online", "offline"] = "online"
    """offline: nothing is sent."""

    def start(self, run: Path, settings: Mapping[str, Any], resumed_step: int) -> Tracking:
        """See `Tracker.start`."""
        try:
            wandb: Any = importlib.import_module("wandb")
        except ImportError:
            raise ConfigError("run.trackers: wandb needs the package wandb (pip install mmpt[trackers])") from None
        own = remembered(run, self.kind, lambda: secrets.token_hex(8))
        found = wandb.init(
            project=self.project,
            entity=self.entity,
            name=self.name or run.name,
            id=own,
            resume="allow",
            mode=self.mode,
            dir=str(run),
            config=dict(settings),
            settings=wandb.Settings(console="off"),  # what a run prints stays its own
        )
        # Its own count of steps only grows, and drops what a run that went on from before says again.
        found.define_metric("step", hidden=True)
        found.define_metric("*", step_metric="step")
        return _Run(found, wandb.Html)


class _Run:
    def __init__(self, run: Any, html: Any) -> None:
        self._run, self._html = run, html

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, "step": step})

    def samples(self, step: int, page: str) -> None:
        self._run.log({"samples": self._html(page, inject=False), "step": step})

    def close(self) -> None:
        self._run.finish()
