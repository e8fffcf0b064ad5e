"""Block sizes: what a device's table says, wherever it says something; and the search for them."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from mmpt.kernels import blocks, nearest_code
from mmpt.kernels.device import device_name, file_name

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.fixture
def tuned(tmp_path, monkeypatch):
    """Writes this device's table, which the kernels then read."""
    monkeypatch.setattr(blocks, "TUNED", tmp_path)

    def write(content: dict) -> None:
        (tmp_path / file_name(device_name(CPU))).write_text(json.dumps({"blocks": content}), encoding="utf-8")
        blocks.table.cache_clear()

    blocks.table.cache_clear()
    yield write
    blocks.table.cache_clear()


def test_a_table_replaces_the_sizes_it_names(tuned):
    assert blocks.blocks("one", CPU, rows=3, columns=5) == {"rows": 3, "columns": 5}
    tuned({"one": {"columns": 7, "of another version": 1}, "two": {"rows": 9}})
    assert blocks.blocks("one", CPU, rows=3, columns=5) == {"rows": 3, "columns": 7}
    assert blocks.blocks("three", CPU, rows=3) == {"rows": 3}


@pytest.mark.parametrize("size", [1, 2**30])
def test_the_kernels_read_the_table_and_find_the_same(tuned, monkeypatch, size):
    draw = torch.Generator().manual_seed(0)
    x, codebook = torch.randn(700, 5, generator=draw), torch.randn(33, 5, generator=draw)
    wanted = nearest_code.nearest_code_reference(x, codebook)
    tuned({"nearest_code": {"chunk_bytes": size}})
    chunks = []
    plain = torch.addmm
    monkeypatch.setattr(torch, "addmm", lambda *given, **options: (chunks.append(len(given[1])), plain(*given, **options))[1])
    assert torch.equal(nearest_code.nearest_code(x, codebook), wanted)
    assert max(chunks) == (nearest_code.MIN_CHUNK if size == 1 else 700)


def test_every_shipped_table_names_kernels_and_sizes_that_are_read():
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "mmpt" / "kernels").glob("*.py"))
    for path in (ROOT / "mmpt" / "kernels" / "tuned").glob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        assert path.name == file_name(content["device"])
        for kernel, sizes in content["blocks"].items():
            assert f'blocks("{kernel}"' in source, f"{path}: nothing reads {kernel}"
            assert all(f"{name}=" in source or f'"{name}":' in source for name in sizes)


@pytest.fixture
def tune(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "kernels")
    spec = importlib.util.spec_from_file_location("tune", ROOT / "kernels" / "tune.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "tune", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("cost", "wanted"), [({1: 4.0, 2: 3.0, 4: 5.0}, {"rows": 2}), ({1: 4.0, 2: 3.95, 4: 5.0}, None)])
def test_the_search_takes_the_fastest_that_is_worth_it(tune, monkeypatch, cost, wanted):
    """`seconds` is a clock that charges by the size in force; a size of 8 does not run."""

    def charge(run):
        size = blocks.blocks("one", CPU, rows=1)["rows"]
        if size == 8:
            raise RuntimeError("out of shared memory")
        return cost[size] * run()

    monkeypatch.setattr(tune.bench, "seconds", charge)
    best, rows = tune.fastest(tune.Search("one", {"rows": [1, 2, 4, 8]}, [lambda: 2.0, lambda: 8.0]))
    assert best == wanted
    assert [row["sizes"]["rows"] for row in rows] == [1, 2, 4] and rows[0]["seconds"] == pytest.approx(16.0)


def test_the_roofline_is_drawn_of_what_the_bench_writes(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("roofline", ROOT / "kernels" / "roofline.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    values = {module.PEAK: 90.0, module.BANDWIDTH: 20.0, "rope: GFLOP/s": 7.0, "rope: FLOP/byte": 0.5, "rope: speed": 2.0}
    figures = [{"name": name, "value": value} for name, value in values.items()]
    module.draw([{"device": "a CPU", "date": "2026-11-21", "figures": figures}], tmp_path / "one.svg")
    module.draw([{"device": "a CPU", "date": "2026-11-21", "figures": figures}], tmp_path / "two.svg")
    drawn = (tmp_path / "one.svg").read_bytes()
    assert drawn == (tmp_path / "two.svg").read_bytes() and b"rope: 70%" in drawn
