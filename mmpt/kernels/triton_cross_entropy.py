"""The Triton kernel of the weighted linear cross entropy; see cross_entropy.py. The matrix products stay with cuBLAS; one program
reads a row of logits twice, once for its sum of exponentials and once to write the gradient in its place."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmpt.kernels.blocks import blocks
from mmpt.kernels.launch import on_grid, power_of_two

SIZES = {"columns": 4096, "warps": 8}


def losses_and_gradient(
    logits: Tensor, targets: Tensor, scale: Tensor, needs_gradient: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(nll float32 [n], correct [n], `logits` [n, V] overwritten by d Σ scale · nll / d logits)."""
    count, size = logits.shape
    nll = torch.empty(count, dtype=torch.float32, device=logits.device)
    correct = torch.empty(count, dtype=torch.int8, device=logits.device)
    if count:
        sizes = blocks("triton_cross_entropy", logits.device, **SIZES)
        block = min(sizes["columns"], power_of_two(size))
        on_grid(_losses, count)(
            logits, targets, scale, nll, correct, logits.stride(0), size,
            GRADIENT=needs_gradient, BLOCK=block, num_warps=sizes["warps"],
        )  # fmt: skip
    return nll, correct.bool(), logits if needs_gradient else None


@triton.jit
def _losses(logits, targets, scale, nll, correct, stride, size: tl.constexpr, GRADIENT: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row)
    start_of_row = logits + row * stride
    columns = tl.arange(0, BLOCK)
    wanted = tl.cast(tl.load(start_of_row + target), tl.float32)
    # A running maximum and sum for each lane (online softmax, Milakov and Gimelshein 2018, arXiv:1805.02867): one pass over the
    # row, and lanes meet only at its end.
    peaks = tl.full((BLOCK,), float("-inf"), dtype=tl.float32)
    sums = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in tl.range(0, size, BLOCK):
        inside = start + columns < size
        value = tl.cast(tl.load(start_of_row + start + columns, mask=inside, other=float("-inf")), tl.float32)
        higher = tl.maximum(peaks, value)
        # Both may be −∞ where a row is shorter than a block: no step from there.
        moved = tl.where(peaks == higher, 0.0, peaks - higher)
        step = tl.where(inside, value - higher, 0.0)
        sums = sums * tl.math.exp(moved) + tl.where(inside, tl.math.exp(step), 0.0)
        peaks = higher
    peak = tl.max(peaks, axis=0)
    total = tl.sum(sums * tl.math.exp(peaks - peak), axis=0)
    tl.store(nll + row, tl.math.log(total) - (wanted - peak))
    tl.store(correct + row, tl.cast(wanted >= peak, tl.int8))
    if GRADIENT:
        # Every logit is read before its own place is written, by the same lane: the gradient needs no memory of its own.
        weight = tl.load(scale + row)
        for start in tl.range(0, size, BLOCK):
            column = start + columns
            inside = column < size
            value = tl.cast(tl.load(start_of_row + column, mask=inside, other=float("-inf")), tl.float32)
            slope = weight * (tl.math.exp(value - peak) / total - tl.where(column == target, 1.0, 0.0))
            tl.store(start_of_row + column, tl.cast(slope, logits.dtype.element_ty), mask=inside)
