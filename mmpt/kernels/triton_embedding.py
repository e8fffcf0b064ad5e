"""The Triton kernels of the lookup in two tables; see embedding.py."""

import triton
import triton.language as tl
from torch import Tensor

from mmpt.kernels.launch import on_grid, power_of_two


def gathered(ids: Tensor, frozen: Tensor, new: Tensor) -> Tensor:
    """Rows [N, H] of `ids` [N]; one program each."""
    ids, frozen, new = ids.contiguous(), frozen.contiguous(), new.contiguous()
    out = new.new_empty(len(ids), new.shape[1])
    if out.numel():
        block = power_of_two(new.shape[1])
        on_grid(_gather, len(ids))(ids, frozen, new, out, len(frozen), new.shape[1], BLOCK=block, num_warps=4)
    return out


def summed(rows: Tensor, order: Tensor, counts: Tensor) -> Tensor:
    """[M, H]: row m the sum of `counts`[m] of the `rows` [N, H], taken as `order` lists them; one program each."""
    rows, order = rows.contiguous(), order.contiguous()
    ends = counts.cumsum(0)
    out = rows.new_empty(len(counts), rows.shape[1])
    if out.numel():
        block = power_of_two(rows.shape[1])
        on_grid(_sum, len(counts))(rows, order, ends, counts, out, rows.shape[1], BLOCK=block, num_warps=4)
    return out


@triton.jit
def _gather(ids, frozen, new, out, old, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    index = tl.load(ids + row)
    if index < old:
        value = tl.load(frozen + index * width + column, mask=inside, other=0.0)
    else:
        value = tl.load(new + (index - old) * width + column, mask=inside, other=0.0)
    tl.store(out + row * width + column, value, mask=inside)


@triton.jit
def _sum(rows, order, ends, counts, out, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    # One program adds a row's tokens one after the other: atomic sums would be faster for a frequent id, in no fixed order.
    end = tl.load(ends + row)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    place = end - tl.load(counts + row)
    while place < end:
        token = tl.load(order + place)
        total += tl.cast(tl.load(rows + token * width + column, mask=inside, other=0.0), tl.float32)
        place += 1
    tl.store(out + row * width + column, tl.cast(total, out.dtype.element_ty), mask=inside)
