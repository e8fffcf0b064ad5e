"""Progress where nobody watches a terminal: lines of a log, few, and none of them cut."""

import io

import pytest
from rich.console import Console

import mmpt.progress
from mmpt.progress import LoggedProgress, progress_bars


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is told."""
    now = [100.0]
    monkeypatch.setattr(mmpt.progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_tells_when_a_task_begins_now_and_then_and_once_when_it_ends(clock, capsys):
    with LoggedProgress() as progress:
        task = progress.add_task("a task whose name is longer than any terminal would show of it in a row of its bar", total=4)
        progress.advance(task)
        clock[0] += mmpt.progress.LOG_SECONDS
        progress.advance(task)
        progress.update(task, completed=4)
        progress.update(task, completed=4)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("of its bar: ")[2].partition(",")[0] for line in lines] == ["0 of 4", "2 of 4", "4 of 4"]
    assert lines[1].endswith("left") and not lines[2].endswith("left")


def test_a_bar_has_its_counts_and_times_whole_in_80_columns(monkeypatch):
    monkeypatch.setattr(mmpt.progress.sys.stdout, "isatty", lambda: True, raising=False)
    progress = progress_bars()
    progress.add_task("corpus: training side: 175 documents/s, 10.8 MB/s", total=36000, completed=36000)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(progress.make_tasks_table(progress.tasks))
    line = console.export_text().splitlines()[0]
    assert "36000/36000" in line and "0:00:00 left -:--:--" in line and line.startswith("corpus: training") and len(line) <= 80
