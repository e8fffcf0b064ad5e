"""All trackers of a run together."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from mmpt.training.config import TrainerConfig
from mmpt.training.trackers import Tracking


class Trackers:
    """Those of `config.run.trackers`, started. One that fails later is told once and left out from then on: no run ends because a
    server elsewhere does not answer, and all figures are in its own files too."""

    def __init__(self, config: TrainerConfig, run: Path, resumed_step: int) -> None:
        self._started: dict[str, Tracking] = {}
        settings = config.model_dump(mode="json", by_alias=True) if config.run.trackers else {}
        for tracker in config.run.trackers:
            self._started[tracker.kind] = tracker.start(run, settings, resumed_step)

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracking.figures`."""
        self._each(lambda tracking: tracking.figures(step, values))

    def samples(self, step: int, page: str) -> None:
        """See `Tracking.samples`."""
        self._each(lambda tracking: tracking.samples(step, page))

    def close(self) -> None:
        """Nothing more will be told."""
        self._each(lambda tracking: tracking.close())

    def _each(self, work: Callable[[Tracking], object]) -> None:
        for kind, tracking in list(self._started.items()):
            try:
                work(tracking)
            except Exception as problem:  # clients raise what they like
                print(f"tracker {kind}: left out from here on: {type(problem).__name__}: {problem}", file=sys.stderr, flush=True)
                del self._started[kind]
