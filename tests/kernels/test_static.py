"""What is proven of a GPU without one: kernels compile as static.json says, it is of today's kernels, and the counting counts."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
COMPILE = """
import json, compiled, pretended
rows = compiled.compiled((pretended.H100,), ("bf16",), each=True)
print(json.dumps([{**row.told(), "bits": row.bits, "limit": row.gpu.shared} for row in rows]))
"""


@pytest.fixture
def bench(monkeypatch):
    """The folder of kernels/static.py on the path; what was imported of it is forgotten afterwards."""
    monkeypatch.syspath_prepend(ROOT / "kernels")
    names = [path.stem for path in (ROOT / "kernels").glob("*.py")]
    yield
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_every_kernel_compiles_for_an_h100_and_keeps_nothing_on_the_stack(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    run = [os.environ.get("COLD_PYTHON", sys.executable), "-c", COMPILE]
    done = subprocess.run(run, cwd=ROOT / "kernels", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    wanted = set()
    for path in (ROOT / "mmpt" / "kernels").glob("triton_*.py"):
        for function in re.findall(r"on_grid\(_(\w+)", path.read_text(encoding="utf-8")):
            wanted.add(f"{path.stem.removeprefix('triton_')} {function}")
    assert {row["kernel"].partition(",")[0] for row in rows} == wanted
    for row in rows:
        assert row["stack"] == 0 and row["shared"] <= row["limit"] and 0 < row["registers"] <= 255, row
        assert row["narrow"] or row["bits"] == 128, row
        assert row["products"] == (["wgmma.mma_async"] if row["kernel"].startswith("nearest_code") else []), row


def test_the_result_is_of_todays_kernels(bench):
    import static

    assert static.RESULT.exists(), f"{static.RENEW} writes {static.RESULT}"
    found = json.loads(static.RESULT.read_text(encoding="utf-8"))
    assert found["kernels"] == static.fingerprint(), f"{static.RESULT} is of other kernels: {static.RENEW} renews it"
    assert {row["target"] for row in found["compiled"]} == {"sm_80", "sm_90", "sm_100"}


def test_widths_are_read_from_ptx(bench):
    import compiled

    code = """
    @%p1 ld.global.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd1 + 0 ];
    ld.global.L1::evict_last.L2::cache_hint.v2.b64 { %rd2, %rd3 }, [ %rd1 + 0 ], %rd9;
    ld.global.b16 %rs1, [ %rd1 + 0 ];
    ld.shared.v4.b32 { %r1, %r2, %r3, %r4 }, [ %r9 ];
    cp.async.cg.shared.global [ %r40 + 0 ], [ %rd4 + 0 ], 0x10, %r41;
    st.global.v2.b32 [ %rd1 + 0 ], { %r1, %r2 };
    st.global.b8 [ %rd1 + 0 ], { %rs1 };
    """
    assert compiled.loads(code) == {16: 1, 128: 3} and compiled.stores(code) == {8: 1, 64: 1}


def test_launches_bytes_and_memory_by_hand(bench):
    import counted
    from pretended import H100

    with counted.counting(H100) as (ledger, _):
        left, right = torch.empty(128, 256), torch.empty(256, 512)
        ledger.clear()
        held = ledger.now
        assert held == 4 * (128 * 256 + 256 * 512)
        product = left @ right.t().t()
        assert left.is_cuda and ledger.launches == {"mm": 1} and ledger.flops == {"mm": 2 * 128 * 256 * 512}
        assert ledger.moved["mm"] == held + 4 * 128 * 512 and ledger.now == held + 4 * 128 * 512
        product.add_(1)
        assert ledger.moved["add_"] == 2 * 4 * 128 * 512
        del product
        assert ledger.now == held and ledger.since(held) == 4 * 128 * 512 and ledger.since() == held


def test_a_triton_kernel_counts_where_it_is_started(bench):
    import counted
    from pretended import H100

    from mmpt.kernels.swiglu import swiglu

    with counted.counting(H100) as (ledger, _):
        gate, up = (torch.empty(64, 32, dtype=torch.bfloat16, requires_grad=True) for _ in range(2))
        ledger.clear()
        found = swiglu(gate, up)
        assert ledger.launches == {"swiglu forward": 1} and ledger.moved["swiglu forward"] == 3 * 2 * 64 * 32
        found.backward(torch.empty_like(found))
        assert ledger.moved["swiglu backward"] == 5 * 2 * 64 * 32


@pytest.mark.slow
def test_a_layer_adds_the_same_to_each_part_of_memory(bench):
    import memory

    from mmpt.config import parse_config
    from mmpt.training.config import TrainingConfig

    shape = {"model_type": "qwen3", "hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4, "head_dim": 64,
             "num_key_value_heads": 2, "num_hidden_layers": 5, "tie_word_embeddings": True}  # fmt: skip
    content = {"output": "none", "data": [{"path": "none"}], "backbone": {"config": shape}, "steps": 10, "precision": "bfloat16",
               "loader": {"pack_tokens": 2048, "packs_per_step": 2}, "optimizer": {"learning_rate": 0.001}}  # fmt: skip
    config = parse_config(content, TrainingConfig, "test")
    assert memory.memory_of(config, shape, 1000, 1) == pytest.approx(memory.measured(config, shape, 1000, 1), rel=0.01)
    found = memory.measured(config, shape, 1000, 1)
    layer = 256 * 64 * (4 + 2 * 2 + 4) + 3 * 256 * 512 + 2 * 256 + 2 * 64
    weights = 4.0 * (5 * layer + 256 + 1007 * 256)
    assert (found.weights, found.gradients, found.optimizer, found.deepspeed) == (weights, weights, 2 * weights, 0)
