"""MLflow."""

import importlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmpt.errors import ConfigError
from mmpt.training.trackers import Tracker, Tracking, remembered

LONGEST = 6000
"""Characters of a parameter's value that every store takes."""


class MLflow(Tracker):
    """A run of mlflow/mlflow: figures as metrics, the recipe as parameters, samples as artifacts."""

    uri: str | None = None
    """Where it is kept: a server, or a store such as sqlite:///runs/mlflow.db; null: what MLFLOW_TRACKING_URI or MLflow says."""
    experiment: str = "mmpt"
    """The experiment."""
    name: str | None = None
    """What the run is called; null: the name of its folder."""

    def start(self, run: Path, settings: Mapping[str, Any], resumed_step: int) -> Tracking:
        """See `Tracker.start`."""
        try:
            mlflow: Any = importlib.import_module("mlflow")
            entities: Any = importlib.import_module("mlflow.entities")
        except ImportError:
            raise ConfigError("run.trackers: mlflow needs the package mlflow (pip install mmpt[trackers])") from None
        client = mlflow.MlflowClient(self.uri)

        def create() -> str:
            known = client.get_experiment_by_name(self.experiment)
            experiment = known.experiment_id if known else client.create_experiment(self.experiment)
            made = client.create_run(experiment, run_name=self.name or run.name).info.run_id
            for key, value in _flat(settings):
                client.log_param(made, key, value[:LONGEST])
            return made

        own = remembered(run, self.kind, create)
        client.update_run(own, status="RUNNING")
        return _Run(client, own, entities.Metric)


class _Run:
    def __init__(self, client: Any, run: str, metric: Any) -> None:
        self._client, self._own, self._metric = client, run, metric

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self._client.log_batch(self._own, [self._metric(name, float(value), now, step) for name, value in values.items()])

    def samples(self, step: int, page: str) -> None:
        self._client.log_text(self._own, page, f"samples/step-{step:08d}.html")

    def close(self) -> None:
        self._client.set_terminated(self._own)


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, one in value.items():
        if isinstance(one, Mapping):
            yield from _flat(one, f"{prefix}{key}.")
        else:
            yield prefix + key, str(one)
