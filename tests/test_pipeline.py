"""Stages: done once, again when their settings or an earlier stage change, time kept over interruptions; children are watched."""

import json
import sys
import time
from dataclasses import replace

import pytest
from rich.progress import Progress

from mmpt.errors import MmptError
from mmpt.pipeline import Child, Pipeline, run_children


def run(folder, settings: dict[str, object], failing: str | None = None) -> list[str]:
    """Names of the stages that were really run."""
    done = []

    def work(name: str):
        def inner():
            time.sleep(0.05)
            if name == failing:
                raise KeyboardInterrupt
            done.append(name)

        return inner

    pipeline = Pipeline(folder)
    for name, value in settings.items():
        pipeline.run(name, value, work(name))
    return done


def test_done_stages_are_skipped_and_a_change_reruns_what_follows(tmp_path):
    assert run(tmp_path, {"a": 1, "b": 1, "c": 1}) == ["a", "b", "c"]
    assert run(tmp_path, {"a": 1, "b": 1, "c": 1}) == []
    assert run(tmp_path, {"a": 1, "b": 2, "c": 1}) == ["b", "c"]
    assert run(tmp_path, {"a": 1, "b": 2, "c": 1}) == []


def test_outputs_of_other_settings_are_removed_but_an_interrupted_stage_keeps_its_own(tmp_path):
    def work(mark: str, stop: bool = False):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / mark).touch()
        if stop:
            raise KeyboardInterrupt

    Pipeline(tmp_path).run("a", 1, lambda: work("first"), ["out"])
    with pytest.raises(KeyboardInterrupt):
        Pipeline(tmp_path).run("a", 2, lambda: work("second", stop=True), ["out"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["second"]
    Pipeline(tmp_path).run("a", 2, lambda: work("third"), ["out"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"second", "third"}


def test_an_interrupted_stage_is_run_again_and_its_time_counts(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, {"a": 1, "b": 1, "c": 1}, failing="b")
    first = json.loads((tmp_path / "stages.json").read_text())
    assert first["a"]["done"] and not first["b"]["done"] and "c" not in first
    assert run(tmp_path, {"a": 1, "b": 1, "c": 1}) == ["b", "c"]
    pipeline = Pipeline(tmp_path)
    assert pipeline.records["b"]["seconds"] >= first["b"]["seconds"] + 0.05
    assert pipeline.seconds == pytest.approx(sum(r["seconds"] for r in pipeline.records.values()))
    assert 0.01 < pipeline.peak_rss_gib < 24


def child(tmp_path, code: str, name: str = "child") -> Child:
    return Child(name, [sys.executable, "-c", code], [tmp_path / f"{name}.jsonl"], 5, tmp_path / f"{name}.log")


def test_children_run_side_by_side_and_report_progress(tmp_path):
    code = "import os, sys; open({!r}, 'w').write('{{\"step\": 3}}\\n'); print(os.environ['OMP_NUM_THREADS'])"
    children = [child(tmp_path, code.format(str(tmp_path / f"{name}.jsonl")), name) for name in ("x", "y")]
    with Progress(disable=True) as progress:
        run_children(children, progress)
        assert [task.completed for task in progress.tasks] == [5, 5]
    assert (tmp_path / "x.log").read_text() == "1\n"


def test_children_wait_for_a_free_place_and_say_when_they_have_ended(tmp_path):
    code = "import time; print(time.monotonic()); time.sleep(0.5); print(time.monotonic())"
    ended = []
    children = [replace(child(tmp_path, code, name), finished=lambda name=name: ended.append(name)) for name in "abc"]
    with Progress(disable=True) as progress:
        run_children(children, progress, at_once=1)
    times = [float(line) for name in "abc" for line in (tmp_path / f"{name}.log").read_text().split()]
    assert times == sorted(times) and ended == ["a", "b", "c"]


def test_a_failing_child_ends_the_others_and_shows_its_log(tmp_path):
    slow = child(tmp_path, "import time; time.sleep(60)", "slow")
    broken = child(tmp_path, "import sys; print('what went wrong'); sys.exit(3)", "broken")
    began = time.monotonic()
    with pytest.raises(MmptError, match="(?s)broken ended with code 3.*what went wrong"), Progress(disable=True) as progress:
        run_children([slow, broken], progress)
    assert time.monotonic() - began < 30
