"""The Triton kernel of the nearest code; see nearest_code.py. One program takes a block of rows past all codes; of the distances
only the least so far and its index are kept."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmpt.kernels.blocks import blocks
from mmpt.kernels.launch import ceil_divide, on_grid

SIZES = {"rows": 64, "codes": 64, "depth": 32, "warps": 4}


def nearest(x: Tensor, codebook: Tensor) -> Tensor:
    """int64 [N] of float32 `x` [N, D] and `codebook` [K, D]."""
    x, codebook = x.contiguous(), codebook.contiguous()
    (count, dim), codes = x.shape, len(codebook)
    found = torch.empty(count, dtype=torch.int64, device=x.device)
    bias = codebook.square().sum(dim=1)
    if count:
        size = blocks("triton_nearest_code", x.device, **SIZES)
        on_grid(_nearest, ceil_divide(count, size["rows"]))(
            x, codebook, bias, found, count, codes, dim,
            ROWS=size["rows"], CODES=size["codes"], DEPTH=size["depth"], num_warps=size["warps"],
        )  # fmt: skip
    return found


@triton.jit
def _nearest(
    x, codebook, bias, found, count, codes: tl.constexpr, dim: tl.constexpr,
    ROWS: tl.constexpr, CODES: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    least = tl.full((ROWS,), float("inf"), dtype=tl.float32)
    index = tl.zeros((ROWS,), dtype=tl.int32)
    for start in tl.range(0, codes, CODES):
        code = start + tl.arange(0, CODES)
        product = tl.zeros((ROWS, CODES), dtype=tl.float32)
        for depth in tl.range(0, dim, DEPTH):
            column = depth + tl.arange(0, DEPTH)
            ours = (row < count)[:, None] & (column < dim)[None, :]
            theirs = (code < codes)[None, :] & (column < dim)[:, None]
            left = tl.load(x + row[:, None] * dim + column[None, :], mask=ours, other=0.0)
            right = tl.load(codebook + code[None, :].to(tl.int64) * dim + column[:, None], mask=theirs, other=0.0)
            # Three TF32 products of split numbers come as near as float32, on tensor cores.
            product = tl.dot(left, right, product, input_precision="tf32x3")
        away = tl.load(bias + code, mask=code < codes, other=float("inf"))[None, :] - 2.0 * product
        # Codes of no row have an infinite bias, so they never win; a strict < keeps the first of equal ones.
        nearest, place = tl.min(away, axis=1, return_indices=True)
        better = nearest < least
        least = tl.where(better, nearest, least)
        index = tl.where(better, start + place, index)
    tl.store(found + row, index.to(tl.int64), mask=row < count)
