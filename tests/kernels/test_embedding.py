"""The lookup in two tables: a row of many tokens is cut into segments, and nothing on a GPU waits for how many there are."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from mmpt.kernels import embedding, triton_embedding
from mmpt.kernels.embedding import two_table_embedding

WAITS = ("nonzero", "bincount", "_local_scalar_dense", "item", "masked_select", "unique", "repeat_interleave")


def gradient(ids, old, new, width, kernel, dtype=torch.float32):
    draw = torch.Generator().manual_seed(0)
    frozen, table = (torch.randn(rows, width, generator=draw, dtype=torch.float64).to(dtype) for rows in (old, new))
    slope = torch.randn(len(ids), width, generator=draw, dtype=torch.float64)
    table.requires_grad_()
    found = two_table_embedding(ids, frozen, table, kernel)
    found.backward(slope.to(dtype))
    wanted = torch.zeros(old + new, width, dtype=torch.float64).index_add_(0, ids, slope.to(dtype).double())[old:]
    assert torch.equal(found, torch.cat([frozen, table.detach()])[ids])
    return table.grad, wanted


@pytest.mark.parametrize("kernel", ["torch", "triton"])
@settings(deadline=None, max_examples=12)
@given(st.lists(st.integers(0, 30), min_size=2, max_size=6), st.integers(0, 2), st.integers(0, 99))
def test_rows_of_any_number_of_tokens_in_any_order(kernel, counts, old, seed):
    """`counts` tokens of each row, with segments of four."""
    old = min(old, len(counts) - 1)
    ids = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    ids = ids[torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_embedding, "SEGMENT", 4)
        found, wanted = gradient(ids, old, len(counts) - old, 3, kernel)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("kernel", ["torch", "triton"])
def test_a_row_of_many_tokens_has_the_same_bits_twice(kernel):
    ids = torch.full((4000,), 7)
    ids[::50] = 3
    runs = [gradient(ids, 2, 8, 5, kernel) for _ in range(2)]
    assert torch.equal(runs[0][0], runs[1][0])
    torch.testing.assert_close(runs[0][0].double(), runs[0][1], rtol=1e-5, atol=1e-4)


def test_no_loop_is_as_long_as_the_tokens_of_a_row(monkeypatch):
    """What each program is given to add: the segments of a frequent row, then its rest."""
    grids = []

    def on_grid(kernel, *programs):
        def call(*given, LENGTH=None, **options):
            grids.append((kernel, programs, LENGTH))

        return call

    monkeypatch.setattr(triton_embedding, "on_grid", on_grid)
    ids = torch.full((4000,), 7)
    triton_embedding.summed(torch.zeros(4000, 4), ids, torch.arange(4000), torch.tensor([0, 4000]), 7)
    length = triton_embedding.SEGMENT
    assert grids == [(triton_embedding._segments, (4000 // length,), length), (triton_embedding._sum, (1,), length)]
    assert 4000 // length + 2 * length < 200


class Called(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.__name__)
        masks = [x for x in args[1] if x is not None] if func.__name__.startswith("index.") else []
        assert not any(mask.dtype == torch.bool for mask in masks), "an index that is a mask"
        return func(*args, **(kwargs or {}))


def test_the_fused_way_back_asks_the_device_nothing():
    """By what it calls: nothing whose result or shape a host would have to wait for."""
    frozen, table = torch.zeros(3, 4), torch.zeros(5, 4, requires_grad=True)
    found = two_table_embedding(torch.tensor([0, 4, 4, 7, 1, 3]), frozen, table, "triton")
    with Called() as called:
        found.backward(torch.ones_like(found))
    assert "sort.stable" in called.names and not [name for name in called.names if name.split(".")[0] in WAITS]


def test_the_plain_way_on_a_gpu_has_shapes_that_no_id_decides():
    """On tensors without memory that say they are on a GPU, whatever needs a value raises."""
    with FakeTensorMode():
        frozen, table = torch.zeros(3, 4, device="cuda"), torch.zeros(5, 4, device="cuda")
        ids = torch.zeros(6, dtype=torch.int64, device="cuda")
        found = two_table_embedding(ids, frozen, table, "torch")
        context = SimpleNamespace(saved_tensors=(ids,), old=3, rows=5, kernel="torch")
        slope = embedding._TwoTables.backward(context, torch.ones_like(found))[2]
        assert found.shape == (6, 4) and slope.shape == (5, 4) and found.is_cuda and slope.is_cuda
