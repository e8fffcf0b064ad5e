"""The Triton kernels of the sparse part of SLTrain's linear layer; see sparse_linear.py. Bound by gathers, not by arithmetic."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmpt.kernels.launch import ceil_divide, on_grid

TOKENS, ENTRIES = 64, 32


def times_sparse(x: Tensor, starts: Tensor, columns: Tensor, values: Tensor, low: Tensor) -> Tensor:
    """`low` [N, O] + x · Sᵀ, `x` [N, I]."""
    x, low = x.contiguous(), low.contiguous()
    out = torch.empty_like(low)
    count, rows = low.shape
    if out.numel():
        run = on_grid(_times, ceil_divide(count, TOKENS), rows)
        run(x, starts, columns, values, low, out, count, x.shape[1], rows, TOKENS=TOKENS, ENTRIES=ENTRIES)
    return out


def sampled(grad: Tensor, x: Tensor, starts: Tensor, columns: Tensor) -> Tensor:
    """Entries of `grad`ᵀ [O, N] · `x` [N, I] on the support; tokens are added up in their order."""
    grad, x = grad.contiguous(), x.contiguous()
    out = x.new_empty(len(columns))
    if out.numel():
        on_grid(_sampled, grad.shape[1])(
            grad, x, starts, columns, out, len(x), x.shape[1], grad.shape[1], TOKENS=TOKENS, ENTRIES=ENTRIES
        )
    return out


@triton.jit
def _times(
    x, starts, columns, values, low, out, count, width, rows, TOKENS: tl.constexpr, ENTRIES: tl.constexpr
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    row = tl.program_id(1)
    seen = token < count
    total = tl.cast(tl.load(low + token * rows + row, mask=seen, other=0.0), tl.float32)
    end = tl.load(starts + row + 1)
    first = tl.load(starts + row)
    while first < end:
        entry = first + tl.arange(0, ENTRIES)
        column = tl.load(columns + entry, mask=entry < end, other=0)
        value = tl.cast(tl.load(values + entry, mask=entry < end, other=0.0), tl.float32)
        both = seen[:, None] & (entry < end)[None, :]
        part = tl.cast(tl.load(x + token[:, None] * width + column[None, :], mask=both, other=0.0), tl.float32)
        total += tl.sum(part * value[None, :], axis=1)
        first += ENTRIES
    tl.store(out + token * rows + row, tl.cast(total, out.dtype.element_ty), mask=seen)


@triton.jit
def _sampled(
    grad, x, starts, columns, out, count, width, rows, TOKENS: tl.constexpr, ENTRIES: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0)
    end = tl.load(starts + row + 1)
    first = tl.load(starts + row)
    while first < end:
        entry = first + tl.arange(0, ENTRIES)
        column = tl.load(columns + entry, mask=entry < end, other=0)
        total = tl.zeros((ENTRIES,), dtype=tl.float32)
        start = row * 0  # a zero of the loop's type: a literal would be another one, and the loop refused
        while start < count:
            token = start + tl.arange(0, TOKENS).to(tl.int64)
            seen = token < count
            slope = tl.cast(tl.load(grad + token * rows + row, mask=seen, other=0.0), tl.float32)
            both = seen[:, None] & (entry < end)[None, :]
            part = tl.cast(tl.load(x + token[:, None] * width + column[None, :], mask=both, other=0.0), tl.float32)
            total += tl.sum(part * slope[:, None], axis=0)
            start += TOKENS
        tl.store(out + entry, tl.cast(total, out.dtype.element_ty), mask=entry < end)
        first += ENTRIES
