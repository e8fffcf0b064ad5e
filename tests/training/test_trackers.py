"""Trackers: what they are told, by clients that are there (an event file, a database, an offline run) and by ones that write down
what is asked of them."""

import os
import sqlite3
import sys
import types
from pathlib import Path

import pytest
import torch

from mmpt.errors import ConfigError
from mmpt.storage import read_json
from mmpt.training.config import TrainerConfig
from mmpt.training.distributed import World
from mmpt.training.metrics import metrics

WORLD = World(0, 1, torch.device("cpu"))
MLFLOW = {"kind": "mlflow", "experiment": "of a test"}


def config(*trackers) -> TrainerConfig:
    run = {"log_every": 1, "trackers": list(trackers)}
    return TrainerConfig(steps=9, optimizer={"learning_rate": 0.1}, run=run)


def run(folder: Path, steps: range, *trackers) -> None:
    """A run that logs its steps, evaluates the last, and shows a page."""
    with metrics(folder, config(*trackers), WORLD, steps.start - 1) as log:
        for step in steps:
            log.log(step, {"loss": 1.0 / step, "nll": {"text": 2.0 * step}}, {"tokens": 10})
        log.evaluated(steps[-1], {"held_out": {"loss": 0.5, "odd/text": 0.25}}, "<p>a page</p>")


class Fake(types.ModuleType):
    """A package that notes every call, its name and what it is given; what it gives can be called in turn."""

    def __init__(self, name: str, calls: list) -> None:
        super().__init__(name)
        self.__dict__["calls"] = calls

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*given, **named):
            self.calls.append((name, given, named))
            found = Fake(name, self.calls)
            found.info = types.SimpleNamespace(run_id="its id")
            found.experiment_id = "of a test"
            return found

        return call


def test_wandb_goes_on_as_the_same_run_on_an_axis_of_steps(tmp_path, monkeypatch):
    calls: list = []
    monkeypatch.setitem(sys.modules, "wandb", Fake("wandb", calls))
    run(tmp_path, range(1, 4), {"kind": "wandb", "mode": "offline", "project": "mine"})
    run(tmp_path, range(3, 5), {"kind": "wandb", "mode": "offline", "project": "mine"})
    begun = [named for name, _, named in calls if name == "init"]
    assert [one["id"] for one in begun] == [read_json(tmp_path / "trackers.json")["wandb"]] * 2
    first = begun[0]
    assert (first["project"], first["mode"], first["name"], first["resume"]) == ("mine", "offline", tmp_path.name, "allow")
    assert first["config"]["optimizer"]["learning_rate"] == 0.1 and first["dir"] == str(tmp_path)
    axes = [(given[0], named) for name, given, named in calls if name == "define_metric"]
    assert axes[:2] == [("step", {"hidden": True}), ("*", {"step_metric": "step"})]
    told = [given[0] for name, given, _ in calls if name == "log"]
    assert [one["step"] for one in told] == [1, 2, 3, 3, 3, 3, 4, 4, 4]
    assert (
        told[1]["loss"] == 0.5
        and told[1]["nll/text"] == 4.0
        and told[3]
        == {
            "held_out/loss": 0.5,
            "held_out/odd/text": 0.25,
            "step": 3,
        }
    )
    assert [given for name, given, _ in calls if name == "Html"] == [("<p>a page</p>",)] * 2
    assert sum(name == "finish" for name, *_ in calls) == 2


def test_mlflow_is_told_metrics_parameters_and_pages(tmp_path, monkeypatch):
    calls: list = []
    package, entities = Fake("mlflow", calls), Fake("mlflow.entities", calls)
    monkeypatch.setitem(sys.modules, "mlflow", package)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    run(tmp_path, range(1, 3), MLFLOW)
    run(tmp_path, range(2, 3), MLFLOW)
    assert read_json(tmp_path / "trackers.json") == {"mlflow": "its id"}
    assert sum(name == "create_run" for name, *_ in calls) == 1
    parameters = {given[1]: given[2] for name, given, _ in calls if name == "log_param"}
    assert parameters["optimizer.learning_rate"] == "0.1" and parameters["steps"] == "9"
    told = [(given[0], given[1], given[3]) for name, given, _ in calls if name == "Metric"]
    assert ("loss", 0.5, 2) in told and ("held_out/odd/text", 0.25, 2) in told
    assert [given for name, given, _ in calls if name == "log_text"][0] == (
        "its id",
        "<p>a page</p>",
        "samples/step-00000002.html",
    )


def test_wandb_offline(tmp_path):
    pytest.importorskip("wandb")
    run(tmp_path, range(1, 4), {"kind": "wandb", "mode": "offline"})
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content = file.read_bytes()
    assert read_json(tmp_path / "trackers.json")["wandb"] in file.name
    assert b"held_out" in content and b"odd/text" in content and b"nll" in content
    (page,) = tmp_path.glob("wandb/offline-run-*/files/media/html/samples*.html")
    assert page.read_text() == "<p>a page</p>"


def test_mlflow_in_a_database(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.chdir(tmp_path)
    store = {**MLFLOW, "uri": f"sqlite:///{tmp_path}/mlflow.db"}
    run(tmp_path / "run", range(1, 4), store)
    run(tmp_path / "run", range(3, 5), store)  # goes on from step 2
    with sqlite3.connect(tmp_path / "mlflow.db") as base:
        assert base.execute("select name, status from runs").fetchall() == [("run", "FINISHED")]
        found = base.execute("select step, value from metrics where key = 'nll/text' order by step").fetchall()
        assert sorted(set(found)) == [(1, 2.0), (2, 4.0), (3, 6.0), (4, 8.0)]
        (rate,) = base.execute("select value from params where key = 'optimizer.learning_rate'").fetchone()
    assert rate == "0.1"
    (page,) = tmp_path.glob("**/samples/step-00000003.html")
    assert page.read_text() == "<p>a page</p>"


def test_a_tracker_that_fails_is_told_once_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    calls: list = []
    package = Fake("wandb", calls)
    monkeypatch.setitem(sys.modules, "wandb", package)

    class Broken(Fake):
        def log(self, values):
            raise ConnectionError("no route")

    package.init = lambda **named: Broken("run", calls)
    run(tmp_path, range(1, 4), "wandb", "tensorboard")
    assert capsys.readouterr().err.count("tracker wandb: left out from here on: ConnectionError: no route") == 1
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3
    assert os.listdir(tmp_path / "tensorboard")


@pytest.mark.parametrize("kind", ["wandb", "mlflow", "tensorboard"])
def test_a_package_that_is_missing_is_told_before_the_first_step(tmp_path, monkeypatch, kind):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if kind == "tensorboard" else kind, None)
    with pytest.raises(ConfigError, match=rf"run.trackers: {kind} needs the package {kind} \(pip install mmpt\["):
        run(tmp_path, range(1, 2), kind)


def test_a_tracker_twice_is_a_mistake():
    with pytest.raises(ValueError, match="each tracker once"):
        config("wandb", {"kind": "wandb", "project": "other"})
