"""`make gpu`: parts in order, each with a limit, and what one has measured outlives it. With stand-ins for the parts."""

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmpt.results import Figure, gather

ROOT = Path(__file__).resolve().parents[2]
NOTE = "import pathlib, sys; pathlib.Path(sys.argv[1]).open('a').write(sys.argv[2])"
SLOW = """
import subprocess, sys, time
from pathlib import Path
from mmpt.storage import write_json
write_json(Path(sys.argv[1]), {"figures": [1]})
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
Path(sys.argv[2]).write_text(str(child.pid))
time.sleep(60)
"""


def loaded(name: str):
    spec = importlib.util.spec_from_file_location(f"kernels_{name}", ROOT / "kernels" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    """With parts that note their letter, of which the second fails, and a GPU."""
    module, noted = loaded("gpu"), tmp_path / "noted"

    def part(letter, code=NOTE, minutes=1.0):
        return module.Part(letter, minutes, ("-c", code, str(noted), letter))

    parts = (part("a"), part("b", NOTE + "; sys.exit(3)"), module.Part("s", 1, ("-c", NOTE, str(noted), "RUN")), part("c"))
    monkeypatch.setattr(module, "PARTS", parts)
    monkeypatch.setattr(module, "device", lambda: "a GPU")
    module.GRACE = 2.0
    return module


def called(module, monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu.py", *map(str, arguments)])
    try:
        module.main()
    except SystemExit as end:
        return end.code or 0
    return 0


def test_parts_run_in_order_and_the_others_run_when_one_fails(gpu, monkeypatch, tmp_path, capsys):
    assert called(gpu, monkeypatch, "--out", tmp_path / "out") == 1
    assert (tmp_path / "noted").read_text() == "abc"
    ended = json.loads((tmp_path / "out" / "parts.json").read_text())
    assert list(ended) == ["a", "b", "s", "c"] and ended["a"]["ended"] == ended["c"]["ended"] == "ok"
    assert ended["b"]["ended"].startswith("exit code 3") and ended["s"]["ended"].startswith("left out")
    assert "peers that are not installed" in capsys.readouterr().out


def test_named_parts_run_in_the_order_of_worth(gpu, monkeypatch, tmp_path):
    assert called(gpu, monkeypatch, "c", "s", "a", "--out", tmp_path / "out", "--run", tmp_path) == 0
    assert (tmp_path / "noted").read_text() == f"a{tmp_path.resolve()}c"
    assert called(gpu, monkeypatch, "d") == 2


def test_a_part_past_its_limit_is_ended_with_all_it_started_and_what_it_wrote_stays(gpu, monkeypatch, tmp_path):
    figures, pid = tmp_path / "figures.json", tmp_path / "pid"
    slow = gpu.Part("slow", 0.2, ("-c", SLOW, str(figures), str(pid)))
    monkeypatch.setattr(gpu, "PARTS", (slow, gpu.PARTS[0]))
    began = time.monotonic()
    assert called(gpu, monkeypatch, "--out", tmp_path / "out") == 1 and time.monotonic() - began < 50
    assert json.loads(figures.read_text()) == {"figures": [1]} and (tmp_path / "noted").read_text() == "a"
    ended = json.loads((tmp_path / "out" / "parts.json").read_text())
    assert ended["slow"]["ended"].startswith("stopped after 12 s") and ended["a"]["ended"] == "ok"
    status = Path(f"/proc/{pid.read_text()}/status")
    assert not status.exists() or "zombie" in status.read_text()


def test_no_part_begins_once_the_time_of_all_is_spent(gpu, monkeypatch, tmp_path):
    assert called(gpu, monkeypatch, "a", "--out", tmp_path / "out", "--minutes", "1e-9") == 0
    assert not (tmp_path / "noted").exists()
    assert json.loads((tmp_path / "out" / "parts.json").read_text())["a"]["ended"] == "left out: no time"


def test_without_a_gpu_it_says_so_and_lists_all_the_same(gpu, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu, "device", lambda: None)
    assert called(gpu, monkeypatch, "--out", tmp_path / "out") == 1 and not (tmp_path / "noted").exists()
    assert "no GPU" in capsys.readouterr().err
    assert called(gpu, monkeypatch, "--list") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["a", "b", "s", "c"]


def test_every_part_is_a_script_that_is_there_and_checks_come_first():
    parts = loaded("gpu").PARTS
    assert all((ROOT / part.command[0]).is_file() for part in parts)
    assert [part.name for part in parts][:2] == ["check", "bench"] and "bfloat16" in parts[0].command


def test_a_figure_is_in_the_file_before_the_next_is_measured(tmp_path, monkeypatch):
    path = tmp_path / "figures.json"
    monkeypatch.setattr("mmpt.results.environment", lambda packages: {"device": "one"})

    def figures():
        yield Figure("a", 1.0, 2.0)
        assert [row["name"] for row in json.loads(path.read_text())["figures"]] == ["a"]
        yield Figure("b", 3.0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gather(figures(), path)
    assert [row["name"] for row in json.loads(path.read_text())["figures"]] == ["a", "b"]
    assert not gather([Figure("a", 1.0, 2.0)], path) and gather([], path)


def test_wheels_are_listed_with_their_sizes_and_a_missing_one_is_named(tmp_path, monkeypatch, capsys):
    wheels = loaded("wheels")

    def pip(command, check):
        assert str(ROOT / "constraints.txt") in command and "--only-binary" in command
        if command[-1] == "lost":
            return subprocess.CompletedProcess(command, 1)
        (Path(command[command.index("--dest") + 1]) / f"{command[-1]}-1-py3-none-any.whl").write_bytes(b"12345")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(wheels.subprocess, "run", pip)
    monkeypatch.setattr(sys, "argv", ["wheels.py", str(tmp_path / "w"), "one", "lost", "two"])
    with pytest.raises(SystemExit) as end:
        wheels.main()
    assert end.value.code == 1 and "lost" in capsys.readouterr().err
    listed = json.loads((tmp_path / "w" / "wheels.json").read_text())
    assert listed == {"wheels": {"one-1-py3-none-any.whl": 5, "two-1-py3-none-any.whl": 5}, "missing": ["lost"]}
