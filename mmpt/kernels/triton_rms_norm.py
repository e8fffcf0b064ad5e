"""RMSNorm's Triton kernels; see rms_norm.py. A program takes as many rows at a time as give each thread 128 bits to load: one row
of a decoder's width, many of a head's. Backward, it takes one such tile after the other of a strip of rows, so that the weight's
gradient is added up in each strip first and over strips afterwards: an order that depends on the shape alone."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmpt.kernels.blocks import blocks
from mmpt.kernels.launch import ceil_divide, on_grid, power_of_two

COLUMNS_PER_WARP = 512
STRIPS = 256
"""Programs of the backward pass: two for each multiprocessor of an H100, on every device, for the same order of sums; up to
`NARROW` times as many where a program takes several rows at a time: of small heads there are many, and few bytes on their way."""
NARROW = 4


def forward(
    rows: Tensor, residual: Tensor | None, weight: Tensor, eps: float, offset: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """(normed [N, H] in `dtype`, x + residual [N, H], rsqrt [N, 1] float32) of contiguous or strided `rows` [N, H]."""
    rows, (count, width) = rows.contiguous(), rows.shape
    residual = None if residual is None else residual.contiguous()
    normed, scale = torch.empty_like(rows, dtype=dtype), rows.new_empty((count, 1), dtype=torch.float32)
    total = rows if residual is None else torch.empty_like(rows)
    if count:
        block, together, warps = tile(width, rows.device)
        on_grid(_forward, ceil_divide(count, together))(
            rows, rows if residual is None else residual, weight, normed, total, scale, count, width, eps, offset,
            FUSED=residual is not None, ROWS=together, BLOCK=block, num_warps=warps,
        )  # fmt: skip
    return normed, total, scale


def backward(
    grad: Tensor, beside: Tensor | None, total: Tensor, weight: Tensor, scale: Tensor, offset: float, needs_weight: bool
) -> tuple[Tensor, Tensor | None]:
    """(d x [N, H], d weight [H] or None)."""
    grad, (count, width) = grad.contiguous(), total.shape
    beside = None if beside is None else beside.contiguous()
    grad_x = torch.empty_like(total)
    block, together, warps = tile(width, total.device)
    strip = max(1, ceil_divide(count, STRIPS * min(NARROW, together) * together)) * together
    strips = ceil_divide(count, strip)
    # Every strip writes its own row whole.
    partial = (torch.empty if count else torch.zeros)(
        (strips, width) if needs_weight else (1, 1), dtype=torch.float32, device=total.device
    )
    if count:
        on_grid(_backward, strips)(
            grad, grad if beside is None else beside, total, weight, scale, grad_x, partial, count, strip, width, offset,
            FUSED=beside is not None, WEIGHT=needs_weight, ROWS=together, BLOCK=block, num_warps=warps,
        )  # fmt: skip
    return grad_x, partial.sum(dim=0).to(weight.dtype) if needs_weight else None


def tile(width: int, device: torch.device) -> tuple[int, int, int]:
    """(columns, rows, warps) that a program takes at a time of rows of `width`."""
    block = power_of_two(width)
    columns = blocks("triton_rms_norm", device, columns_per_warp=COLUMNS_PER_WARP)["columns_per_warp"]
    warps = min(32, max(4, block // columns))
    return block, max(1, warps * columns // block), warps


@triton.jit
def _forward(
    x, residual, weight, normed, total, scale, count, width, eps, offset,
    FUSED: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK)
    places = row[:, None] * width + columns[None, :]
    inside = (row < count)[:, None] & (columns < width)[None, :]
    value = tl.load(x + places, mask=inside, other=0.0)
    if FUSED:
        value = value + tl.load(residual + places, mask=inside, other=0.0)
        tl.store(total + places, value, mask=inside)
    # The sum was rounded to its dtype first, as the next layer reads it: norm and residual stream agree.
    value = tl.cast(value, tl.float32)
    rsqrt = tl.math.rsqrt(tl.sum(value * value, axis=1) / width + eps)
    tl.store(scale + row, rsqrt, mask=row < count)
    factor = tl.cast(tl.load(weight + columns, mask=columns < width, other=0.0), tl.float32) + offset
    tl.store(normed + places, tl.cast(value * rsqrt[:, None] * factor[None, :], normed.dtype.element_ty), mask=inside)


@triton.jit
def _backward(
    grad, beside, total, weight, scale, grad_x, partial, count, strip, width, offset,
    FUSED: tl.constexpr, WEIGHT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0).to(tl.int64) * strip
    columns = tl.arange(0, BLOCK)
    factor = (tl.cast(tl.load(weight + columns, mask=columns < width, other=0.0), tl.float32) + offset)[None, :]
    added = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
    start, last = first, tl.minimum(first + strip, count)
    # Only where the tile begins needs 64 bits: with all of them an A100 keeps one on the stack.
    rows = tl.arange(0, ROWS)
    places = rows[:, None] * width + columns[None, :]
    while start < last:
        here = start * width
        inside = (rows < last - start)[:, None] & (columns < width)[None, :]
        rsqrt = tl.load(scale + start + rows, mask=rows < last - start, other=0.0)[:, None]
        normed = tl.cast(tl.load(total + here + places, mask=inside, other=0.0), tl.float32) * rsqrt
        slope = tl.cast(tl.load(grad + here + places, mask=inside, other=0.0), tl.float32)
        if WEIGHT:
            added += slope * normed
        # d x = rsqrt · (wanted − normed · mean(wanted · normed)): what would only scale the row is taken out.
        wanted = slope * factor
        found = (wanted - normed * (tl.sum(wanted * normed, axis=1) / width)[:, None]) * rsqrt
        if FUSED:
            found += tl.cast(tl.load(beside + here + places, mask=inside, other=0.0), tl.float32)
        tl.store(grad_x + here + places, tl.cast(found, grad_x.dtype.element_ty), mask=inside)
        start += ROWS
    if WEIGHT:
        places = tl.program_id(0).to(tl.int64) * width + columns
        tl.store(partial + places, tl.sum(added, axis=0), mask=columns < width)
