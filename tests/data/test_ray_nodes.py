"""Tools on a Ray cluster of two nodes, each started as on a machine of its own: another working folder, another temporary one."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image as Picture

from mmpt.data.engine.task import enter
from mmpt.data.engine.workers import run_all
from mmpt.data.shards.read import DocumentShards
from mmpt.errors import ConfigError
from mmpt.media import encode_png, encode_wav

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, Path]]:
    """(Address, folder of both nodes' folders)."""
    pytest.importorskip("ray")
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # Ray's sockets need short paths
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    options = ["--num-cpus=1", "--object-store-memory=83886080", "--disable-usage-stats", "--block"]
    nodes = []
    try:
        for name, where in (
            ("one", ["--head", f"--port={port}", "--include-dashboard=false"]),
            ("two", [f"--address={address}"]),
        ):
            (folder / name / "tmp").mkdir(parents=True)
            command = [str(Path(sys.executable).parent / "ray"), "start", *where, f"--temp-dir={folder / name / 'ray'}", *options]
            environment = {**os.environ, "TMPDIR": str(folder / name / "tmp"), "PYTHONPATH": str(ROOT)}
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
            nodes.append(subprocess.Popen(command, cwd=folder / name, env=environment, **quiet))
            _wait_for(len(nodes), address)
        yield address, folder
    finally:
        for node in reversed(nodes):
            node.terminate()  # with --block it ends what it started
        for node in nodes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(count: int, address: str) -> None:
    """Until so many nodes are there. A head listens before it is one itself, and a node that asks it by then gives up."""
    import ray

    until, alive = time.monotonic() + 120, 0
    while alive < count and time.monotonic() < until:
        with contextlib.suppress(ConnectionError):
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
            alive = sum(node["Alive"] for node in ray.nodes())
        ray.shutdown()
        time.sleep(0.1)
    assert alive == count, f"{alive} nodes after 120 s, expected {count}"


def where_am_i(seconds: float) -> tuple[str, str]:
    time.sleep(seconds)
    return os.getcwd(), tempfile.gettempdir()


def who_reads(folder: str, number: int) -> bool:
    enter(folder)
    return Path("data.txt").exists()


def tool(folder: Path, name: str, *arguments: str) -> None:
    command = [os.environ["WARM_PYTHON"], str(ROOT / "datasets" / name), *arguments]
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_both_nodes_work_in_folders_of_their_own(cluster):
    address, folder = cluster
    for attempt in range(1, 11):  # one may be done before the other has begun
        found = {place for _, place in run_all(where_am_i, [0.5 * attempt] * 8, 1, address)}
        if len(found) == 2:
            break
    temporary = {place for _, place in found}
    assert temporary == {str(folder / "one" / "tmp"), str(folder / "two" / "tmp")}
    assert len({place for place, _ in found}) == 2


def test_they_write_the_bytes_of_local_processes(cluster, tmp_path):
    """As test_engine.py's processes do; the command's paths are relative, and files of the same names, with other content, are in
    the nodes' folders."""
    address, folder = cluster
    random = np.random.default_rng(0)
    for place, count in ((tmp_path, 30), (folder / "one", 3), (folder / "two", 3)):
        for number in range(count):
            (place / "docs").mkdir(exist_ok=True)
            (place / "said").mkdir(exist_ok=True)
            picture = Picture.fromarray(random.integers(0, 255, (60, 60, 3), dtype=np.uint8))
            (place / "docs" / f"{number}.png").write_bytes(encode_png(picture))
            text = f"Page {number} says {random.integers(10**9)}\n\n![it]({number}.png)\n\nand {'on ' * 40}.\n"
            (place / "docs" / f"{number}.md").write_text(text)
            sound = random.uniform(-0.5, 0.5, 5000 + number).astype(np.float32)
            (place / "said" / f"one_ann_{number}.wav").write_bytes(encode_wav(sound, 16000))
    sources = [{"kind": "markdown", "folder": "docs"}, {"kind": "recordings", "folder": "said", "indices": [0, 99]}]
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump({"sources": sources}))
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"rules": [{"kind": "text_length", "min": 2}]}))
    for name, how in (("near", ["--processes", "1"]), ("far", ["--ray", address])):
        (tmp_path / name).mkdir()
        tool(tmp_path, "build.py", "spec.yaml", f"{name}/built", *how, "--max-bytes", "50000")
        tool(tmp_path, "filter.py", "rules.yaml", f"{name}/built", f"{name}/filtered", *how)
        tool(tmp_path, "dedup.py", f"{name}/filtered", f"{name}/unique", *how)
        tool(tmp_path, "join.py", f"{name}/unique", f"{name}/joined", *how)
    near, far = everything(tmp_path / "near"), everything(tmp_path / "far")
    assert near.keys() == far.keys() and len(DocumentShards(tmp_path / "far" / "built")) == 60
    assert sum(name.endswith(".tar") for name in near) >= 20
    told = {name: _without_plan(data.replace(b"near/", b"far/")) for name, data in near.items() if name.endswith("manifest.json")}
    assert len(told) == 4 and all(lines == _without_plan(far[name]) for name, lines in told.items())
    assert [name for name, data in near.items() if name not in told and data != far[name]] == []


def _without_plan(data: bytes) -> list[bytes]:
    return [line for line in data.splitlines() if b'"plan"' not in line]  # a hash over the names of sets, too


def test_a_folder_that_a_worker_has_not_is_not_another_one(cluster):
    address, folder = cluster
    for name in ("one", "two"):
        (folder / name / "data.txt").write_text("of this machine")
    found = [read for _, read in run_all(partial(who_reads, "/no/such/folder"), list(range(4)), 1, address)]
    assert found == [False] * 4
    assert all(read for _, read in run_all(partial(who_reads, str(folder / "one")), list(range(4)), 1, address))


def test_nobody_at_the_address_is_told_at_once():
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match="no cluster at"):
        list(run_all(where_am_i, [1], 1, "127.0.0.1:1"))
