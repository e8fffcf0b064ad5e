"""RMSNorm's Triton kernels; see rms_norm.py. One program takes a strip of rows, so that the weight's gradient is added up in each
strip first and over strips afterwards: an order that depends on the shape alone."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmpt.kernels.blocks import blocks
from mmpt.kernels.launch import ceil_divide, on_grid, power_of_two

COLUMNS_PER_WARP = 512
STRIPS = 256
"""Programs of the backward pass: two for each multiprocessor of an H100, on every device, for the same order of sums."""


def forward(
    rows: Tensor, residual: Tensor | None, weight: Tensor, eps: float, offset: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """(normed [N, H] in `dtype`, x + residual [N, H], rsqrt [N, 1] float32) of contiguous or strided `rows` [N, H]."""
    rows, (count, width) = rows.contiguous(), rows.shape
    residual = None if residual is None else residual.contiguous()
    normed, scale = torch.empty_like(rows, dtype=dtype), rows.new_empty((count, 1), dtype=torch.float32)
    total = rows if residual is None else torch.empty_like(rows)
    if count:
        block = power_of_two(width)
        on_grid(_forward, count)(
            rows, rows if residual is None else residual, weight, normed, total, scale, width, eps, offset,
            FUSED=residual is not None, BLOCK=block, num_warps=_warps(block, rows.device),
        )  # fmt: skip
    return normed, total, scale


def backward(
    grad: Tensor, beside: Tensor | None, total: Tensor, weight: Tensor, scale: Tensor, offset: float, needs_weight: bool
) -> tuple[Tensor, Tensor | None]:
    """(d x [N, H], d weight [H] or None)."""
    grad, (count, width) = grad.contiguous(), total.shape
    beside = None if beside is None else beside.contiguous()
    grad_x = torch.empty_like(total)
    strip = max(1, ceil_divide(count, STRIPS))
    strips = ceil_divide(count, strip)
    # Every strip writes its own row whole.
    partial = (torch.empty if count else torch.zeros)(
        (strips, width) if needs_weight else (1, 1), dtype=torch.float32, device=total.device
    )
    if count:
        block = power_of_two(width)
        on_grid(_backward, strips)(
            grad, grad if beside is None else beside, total, weight, scale, grad_x, partial, count, strip, width, offset,
            FUSED=beside is not None, WEIGHT=needs_weight, BLOCK=block, num_warps=_warps(block, total.device),
        )  # fmt: skip
    return grad_x, partial.sum(dim=0).to(weight.dtype) if needs_weight else None


def _warps(block: int, device: torch.device) -> int:
    columns = blocks("triton_rms_norm", device, columns_per_warp=COLUMNS_PER_WARP)["columns_per_warp"]
    return min(32, max(4, block // columns))


@triton.jit
def _forward(
    x, residual, weight, normed, total, scale, width, eps, offset, FUSED: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    value = tl.load(x + row * width + columns, mask=inside, other=0.0)
    if FUSED:
        value = value + tl.load(residual + row * width + columns, mask=inside, other=0.0)
        tl.store(total + row * width + columns, value, mask=inside)
    # The sum was rounded to its dtype first, as the next layer reads it: norm and residual stream agree.
    value = tl.cast(value, tl.float32)
    rsqrt = tl.math.rsqrt(tl.sum(value * value, axis=0) / width + eps)
    tl.store(scale + row, rsqrt)
    factor = tl.cast(tl.load(weight + columns, mask=inside, other=0.0), tl.float32) + offset
    tl.store(normed + row * width + columns, tl.cast(value * rsqrt * factor, normed.dtype.element_ty), mask=inside)


@triton.jit
def _backward(
    grad, beside, total, weight, scale, grad_x, partial, count, strip, width, offset,
    FUSED: tl.constexpr, WEIGHT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0).to(tl.int64) * strip
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    factor = tl.cast(tl.load(weight + columns, mask=inside, other=0.0), tl.float32) + offset
    added = tl.zeros((BLOCK,), dtype=tl.float32)
    row, last = first, tl.minimum(first + strip, count)
    while row < last:
        rsqrt = tl.load(scale + row)
        normed = tl.cast(tl.load(total + row * width + columns, mask=inside, other=0.0), tl.float32) * rsqrt
        slope = tl.cast(tl.load(grad + row * width + columns, mask=inside, other=0.0), tl.float32)
        if WEIGHT:
            added += slope * normed
        # d x = rsqrt · (wanted − normed · mean(wanted · normed)): what would only scale the row is taken out.
        wanted = slope * factor
        found = (wanted - normed * (tl.sum(wanted * normed, axis=0) / width)) * rsqrt
        if FUSED:
            found += tl.cast(tl.load(beside + row * width + columns, mask=inside, other=0.0), tl.float32)
        tl.store(grad_x + row * width + columns, tl.cast(found, grad_x.dtype.element_ty), mask=inside)
        row += 1
    if WEIGHT:
        tl.store(partial + tl.program_id(0).to(tl.int64) * width + columns, added, mask=inside)
