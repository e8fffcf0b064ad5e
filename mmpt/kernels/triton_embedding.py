"""The Triton kernels of the lookup in two tables; see embedding.py."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmpt.kernels.launch import on_grid, power_of_two

SEGMENT = 64
"""Tokens that one program adds up one after the other, of a row that has many."""


def gathered(ids: Tensor, frozen: Tensor, new: Tensor) -> Tensor:
    """Rows [N, H] of `ids` [N]; one program each."""
    ids, frozen, new = ids.contiguous(), frozen.contiguous(), new.contiguous()
    out = new.new_empty(len(ids), new.shape[1])
    if out.numel():
        block = power_of_two(new.shape[1])
        on_grid(_gather, len(ids))(ids, frozen, new, out, len(frozen), new.shape[1], BLOCK=block, num_warps=4)
    return out


def summed(rows: Tensor, ids: Tensor, order: Tensor, starts: Tensor, old: int) -> Tensor:
    """[M, H]: row m the sum of the `rows` [N, H] that `order` lists from `starts`[m] to `starts`[m + 1]; `starts` int64 [M + 1].
    `ids` [N] sorted: `old` + m there.

    The sorted tokens are cut every `SEGMENT`. Each segment that lies within one row is added up by a program of its own, first;
    then each row adds up its segments and the tokens before and behind them. So the longest loop over N equal tokens has
    N / SEGMENT + 2 · SEGMENT steps, and the order of sums is that of the ids.
    """
    rows, ids, order, starts = rows.contiguous(), ids.contiguous(), order.contiguous(), starts.contiguous()
    (count, width), new = rows.shape, len(starts) - 1
    out, segments = rows.new_empty(new, width), count // SEGMENT
    partial = torch.empty(max(segments, 1), width, dtype=torch.float32, device=rows.device)
    if out.numel():
        block = power_of_two(width)
        if segments:
            on_grid(_segments, segments)(rows, ids, order, partial, old, width, LENGTH=SEGMENT, BLOCK=block, num_warps=4)
        on_grid(_sum, new)(rows, order, starts, partial, out, width, LENGTH=SEGMENT, BLOCK=block, num_warps=4)
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
def _segments(rows, ids, order, partial, old, width, LENGTH: tl.constexpr, BLOCK: tl.constexpr):
    segment = tl.program_id(0).to(tl.int64)
    place = segment * LENGTH
    column = tl.arange(0, BLOCK)
    inside = column < width
    row = tl.load(ids + place)
    if (row >= old) & (row == tl.load(ids + place + LENGTH - 1)):
        total = tl.zeros((BLOCK,), dtype=tl.float32)
        for step in tl.range(0, LENGTH):
            token = tl.load(order + place + step)
            total += tl.cast(tl.load(rows + token * width + column, mask=inside, other=0.0), tl.float32)
        tl.store(partial + segment * width + column, total, mask=inside)


@triton.jit
def _sum(rows, order, starts, partial, out, width, LENGTH: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    place, end = tl.load(starts + row), tl.load(starts + row + 1)
    segment, last = (place + LENGTH - 1) // LENGTH, end // LENGTH  # those that lie within the row whole; perhaps none
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    # Atomic sums would be shorter for a frequent id, in no fixed order.
    until = tl.minimum(end, segment * LENGTH)
    while place < until:
        token = tl.load(order + place)
        total += tl.cast(tl.load(rows + token * width + column, mask=inside, other=0.0), tl.float32)
        place += 1
    while segment < last:
        total += tl.load(partial + segment * width + column, mask=inside, other=0.0)
        segment += 1
    place = tl.maximum(until, last * LENGTH)
    while place < end:
        token = tl.load(order + place)
        total += tl.cast(tl.load(rows + token * width + column, mask=inside, other=0.0), tl.float32)
        place += 1
    tl.store(out + row * width + column, tl.cast(total, out.dtype.element_ty), mask=inside)
