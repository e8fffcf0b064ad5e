"""What every tool that writes shards promises: the same bytes for any number of processes, after any kill, on any store.

The tests copy a set of shards by way of the engine, which reads, decodes and writes every document anew.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image as Picture

from mmpt.data import build
from mmpt.data import store as stores
from mmpt.data.build import BuildConfig
from mmpt.data.engine import run as engine
from mmpt.data.engine.run import RunConfig, Summary, plan_tasks, write_set
from mmpt.data.lost import from_lines
from mmpt.data.shards.lint import lint
from mmpt.data.shards.read import DocumentShards
from mmpt.data.shards.write import ShardWriter
from mmpt.data.sources import shards
from mmpt.data.store import Store
from mmpt.data.unit import Unit, told
from mmpt.document import Document, Image, Text
from mmpt.errors import ConfigError, DataError
from mmpt.media import encode_png, encode_wav

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def documents(count: int) -> list[Document]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    pictures = [encode_png(Picture.fromarray(one)) for one in pixels]
    return [
        Document(f"id-{number}", "test", (Text(f"text {number}"), Image(data, "png", 12, 12)), {"number": number})
        for number, data in enumerate(pictures)
    ]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "set"
    with ShardWriter(folder, built={}, max_documents=7) as writer:
        for document in documents(120):
            writer.write(document)
    return folder


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    monkeypatch.setattr(engine, "LEAST_TASK_BYTES", 20_000)


def copy(source: Path, out: Path | str, times: int = 1, **options) -> Summary:
    config = shards.Shards(folder=str(source))
    units = config.units() * times
    return write_set(out, read=shards.Shards.read, config=config, units=units, built={"by": "a test"}, run=RunConfig(**options))


def content(folder: Path | str) -> dict[str, bytes]:
    store = Store(folder)
    return {name: store.read(name) for name in store.files()}


def damage(folder: Path, share: float) -> None:
    draw = random.Random(0)
    for path in sorted(folder.glob("*.tar")):
        data = bytearray(path.read_bytes())
        for place in range(0, len(data) - 1024, 1024):
            if draw.random() < share:
                data[place + 600] ^= 1
        path.write_bytes(data)


def test_processes_and_this_process_give_the_same_bytes(source, tmp_path):
    one = copy(source, tmp_path / "one")
    two = copy(source, tmp_path / "two", processes=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert one.documents == two.documents == 120 and one.lost == {}
    assert list(DocumentShards(tmp_path / "one")) == documents(120)
    names = [name for name in content(tmp_path / "one") if name.endswith(".tar")]
    assert len(names) > 4 and "shard-00000-00000.tar" in names
    assert lint(tmp_path / "one") == []


def test_killed_at_any_moment_and_run_again_it_ends_with_the_same_bytes(source, tmp_path):
    copy(source, tmp_path / "whole", max_bytes=30_000)
    # The process kills itself in the middle of its n-th change of the folder: a file written in part, or just before or after.
    code = (
        "import os, signal, sys; from mmpt.data.engine import run; from mmpt.data.sources import shards\n"
        "from mmpt.data.store import Store\n"
        "run.LEAST_TASK_BYTES = 20_000; left = int(sys.argv[3])\n"
        "def change(function):\n"
        "    def changed(*arguments):\n"
        "        global left; left -= 1\n"
        "        if left == 0 and sys.argv[4] == 'before': os.kill(os.getpid(), signal.SIGKILL)\n"
        "        function(*arguments)\n"
        "        if left == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return changed\n"
        "for name in ('put', 'write', 'remove'): setattr(Store, name, change(getattr(Store, name)))\n"
        "os.fsync = change(os.fsync)\n"
        "c = shards.Shards(folder=sys.argv[1])\n"
        "run.write_set(sys.argv[2], read=shards.Shards.read, config=c, units=c.units(), built={'by': 'a test'},\n"
        "              run=run.RunConfig(max_bytes=30_000))"
    )
    out = tmp_path / "out"
    draw = random.Random(1)
    kills = 0
    while True:
        arguments = [str(draw.randint(4, 25)), draw.choice(["before", "after"])]
        command = [os.environ["WARM_PYTHON"], "-c", code, str(source), str(out), *arguments]
        process = subprocess.run(command, cwd=ROOT, capture_output=True)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, process.stderr
        kills += 1
    assert kills >= 3
    assert content(out) == content(tmp_path / "whole")


def test_what_is_finished_is_not_built_again_and_nothing_else_is_overwritten(source, tmp_path):
    out = tmp_path / "out"
    copy(source, out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert copy(source, out).documents == 120
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    with pytest.raises(ConfigError, match="finished set that was built otherwise"):
        copy(source, out, max_bytes=50_000)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        copy(source, other)
    with pytest.raises(ConfigError, match="nothing to read"):
        copy(source, tmp_path / "none", times=0)


def test_of_two_documents_with_one_id_the_first_is_kept_and_the_other_listed(source, tmp_path):
    summary = copy(source, tmp_path / "twice", times=2, max_lost=1.0)
    assert summary.documents == 120 and summary.lost == {"bad data": 120}
    assert list(DocumentShards(tmp_path / "twice")) == documents(120)
    assert lint(tmp_path / "twice") == []
    copy(source, tmp_path / "again", times=2, max_lost=1.0, processes=2)
    assert content(tmp_path / "again") == content(tmp_path / "twice")
    lost = from_lines((tmp_path / "twice" / "lost.jsonl").read_bytes())
    assert [one.document for one in lost] == [f"id-{number}" for number in range(120)]


def test_bad_data_is_listed_and_too_much_of_it_stops_the_run(source, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    damage(folder, 0.02)
    summary = copy(folder, tmp_path / "some", max_lost=0.5)
    lost = from_lines((tmp_path / "some" / "lost.jsonl").read_bytes())
    assert 0 < len(lost) == summary.lost["bad data"] == 120 - summary.documents
    kept = {document.id: document for document in DocumentShards(tmp_path / "some")}
    assert all(kept[document.id] == document for document in documents(120) if document.id in kept)
    with pytest.raises(DataError, match="documents are bad, more than max_lost 0.01 allows"):
        copy(folder, tmp_path / "few", max_lost=0.01)
    assert not (tmp_path / "few" / "manifest.json").exists()
    damage(folder, 1.0)
    damage(folder, 0.5)
    with pytest.raises(DataError, match="are bad|not one of"):
        copy(folder, tmp_path / "none", max_lost=0.05, processes=2)


def test_a_full_disk_is_a_clear_error_and_the_run_goes_on_after_it(source, tmp_path):
    code = (
        "import resource, sys; from mmpt.data.sources import shards; from mmpt.data.engine import run\n"
        "from mmpt.scripts import main_guard\n"
        "run.LEAST_TASK_BYTES = 20_000\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, 15_000))\n"
        "c = shards.Shards(folder=sys.argv[1])\n"
        "main_guard(lambda: run.write_set(sys.argv[2], read=shards.Shards.read, config=c, units=c.units(),"
        " built={'by': 'a test'}))()"
    )
    out = tmp_path / "out"
    command = [sys.executable, "-c", code, str(source), str(out)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and "cannot be written (File too large)" in result.stderr, result.stderr
    assert "Traceback" not in result.stderr and not (out / "manifest.json").exists()
    copy(source, out)
    copy(source, tmp_path / "whole")
    assert content(out) == content(tmp_path / "whole")


class Unreliable(MemoryFileSystem):
    """A remote of which every second request, at random, fails: before it is done, or after."""

    protocol = "unreliable"
    store: dict = {}
    pseudo_dirs = [""]
    draw = random.Random(0)
    failures = 0

    @classmethod
    def _perhaps(cls) -> None:
        if cls.draw.random() < 0.5:
            cls.failures += 1
            raise ConnectionResetError("connection reset by peer")

    def cat_file(self, *arguments, **options):
        self._perhaps()
        return super().cat_file(*arguments, **options)

    def pipe_file(self, *arguments, **options):
        super().pipe_file(*arguments, **options)
        self._perhaps()

    def put_file(self, *arguments, **options):
        self._perhaps()
        return super().put_file(*arguments, **options)

    def find(self, *arguments, **options):
        self._perhaps()
        return super().find(*arguments, **options)

    def rm(self, *arguments, **options):
        self._perhaps()
        return super().rm(*arguments, **options)


def test_a_remote_that_fails_half_of_the_time_loses_nothing(source, tmp_path, monkeypatch):
    fsspec.register_implementation("unreliable", Unreliable, clobber=True)
    monkeypatch.setattr(stores, "LONGEST_WAIT", 1e-3)
    copy(source, tmp_path / "local")
    copy(source, "unreliable://bucket/set")
    expected = content(tmp_path / "local")
    assert Unreliable.failures > 20
    assert content("unreliable://bucket/set") == expected
    copy("unreliable://bucket/set", tmp_path / "back", max_bytes=10_000_000)
    assert list(DocumentShards(tmp_path / "back")) == documents(120)


def manifest(folder: Path, count: int) -> BuildConfig:
    """A table of `count` recordings: 128 kB a row are expected, so 7 of them are a unit, of 1 MiB."""
    folder.mkdir()
    sound = encode_wav((0.1 * np.sin(np.arange(800))).astype(np.float32), 8000)
    rows = [{"audio_filepath": f"{number}.wav", "text": f"utterance {number}"} for number in range(count)]
    for row in rows:
        (folder / row["audio_filepath"]).write_bytes(sound)
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return BuildConfig.model_validate({"sources": [{"kind": "nemo", "manifest": str(folder / "m.jsonl")}]})


def read_or_stop(config: BuildConfig, unit: Unit):
    """Reads as `build.read` does, notes it, and is interrupted before the fifth unit."""
    folder = Path(config.sources[0].manifest).parent
    (folder / f"read-{time.monotonic_ns()}").write_text(told(unit.what))
    if len(list(folder.glob("read-*"))) == 5:
        raise KeyboardInterrupt
    return build.read(config, unit)


def test_a_manifest_is_many_tasks_and_those_that_were_done_are_not_done_again(tmp_path):
    config = manifest(tmp_path / "data", 80)
    units = build.units(config)
    assert len(units) == len(plan_tasks(units, 256 << 20)) == 12
    options = {"read": read_or_stop, "config": config, "units": units, "built": {"spec": config.model_dump(mode="json")}}
    with pytest.raises(KeyboardInterrupt):
        write_set(tmp_path / "stopped", **options)
    assert write_set(tmp_path / "stopped", **options).documents == 80
    read = Counter(path.read_text() for path in (tmp_path / "data").glob("read-*"))
    assert sorted(read.values()) == [1] * 11 + [2], "only what was interrupted is read again"
    build.build(config, tmp_path / "two", RunConfig(processes=2))
    assert content(tmp_path / "stopped") == content(tmp_path / "two")


def test_units_of_unknown_size_and_empty_files_are_planned():
    sizes = [0, 0, 5_000, 5_000, 50_000, 10]
    tasks = plan_tasks([Unit(number, size) for number, size in enumerate(sizes)], 40_000)
    assert [[unit.what for unit in task.units] for task in tasks] == [[0], [1], [2, 3], [4], [5]]
    assert plan_tasks([], 100) == [] and len(plan_tasks([Unit(0, 0)], 1)) == 1
    unknown = plan_tasks([Unit(number, 0) for number in range(320)], 256 << 20)
    assert len(unknown) == 32, "a server that says no sizes is read by many processes all the same"


def test_a_source_of_nothing_but_empty_files_and_odd_names_ends_with_a_message(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("a.md", "b\nc.md", "d:e.md"):
        (docs / name).write_bytes(b"")
    config = BuildConfig.model_validate({"sources": [{"kind": "markdown", "folder": str(docs)}]})
    with pytest.raises(DataError, match="not one of 3 documents could be read"):
        build.build(config, tmp_path / "none", RunConfig(max_lost=1))
    (docs / os.fsdecode(b"caf\xe9.md")).write_text("# One")
    (docs / "b\nc.md").write_text("# Two")
    (docs / "loop.md").symlink_to("loop.md")
    assert build.build(config, tmp_path / "some", RunConfig(max_lost=1)).documents == 2
    assert [one.id for one in DocumentShards(tmp_path / "some")] == ["docs/b\nc.md", "docs/caf\\udce9.md"]
    lost = from_lines((tmp_path / "some" / "lost.jsonl").read_bytes())
    assert sorted(Path(one.item).name for one in lost if one.whole) == ["a.md", "d:e.md", "loop.md"]


def test_pictures_that_are_missing_stop_a_run_as_documents_do(tmp_path):
    (tmp_path / "a.png").write_bytes(documents(1)[0].parts[1].data)

    def config(name: str, rows: list[dict]) -> BuildConfig:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        source = {"kind": "aligned_lists", "rows": str(tmp_path / name), "images": str(tmp_path)}
        return BuildConfig.model_validate({"sources": [source]})

    missing = {"images": ["none.png", None], "texts": [None, "text"]}
    there = {"images": ["a.png", None], "texts": [None, "text"]}
    with pytest.raises(DataError, match=r"\d+ of 1\d\d pictures and recordings are missing or bad, more than max_lost 0.05"):
        build.build(config("many.jsonl", [there] * 20 + [missing] * 100), tmp_path / "many")
    with pytest.raises(DataError, match="not one of 30 pictures and recordings could be read"):
        build.build(config("few.jsonl", [missing] * 30), tmp_path / "few")
    assert build.build(config("rest.jsonl", [missing] * 30), tmp_path / "rest", RunConfig(max_lost=1)).documents == 30
    assert build.build(config("some.jsonl", [there] * 114 + [missing] * 6), tmp_path / "some").lost == {"bad data": 6}
