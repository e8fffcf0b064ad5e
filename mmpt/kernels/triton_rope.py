"""The Triton kernel of the rotary position embedding; see rope.py. One program takes all heads of one token."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmpt.kernels.blocks import blocks
from mmpt.kernels.launch import on_grid, power_of_two


def rotated(x: Tensor, cos: Tensor, sin: Tensor, way: int) -> Tensor:
    """`x` [B, heads, T, D] of any strides but the last, turned by `way` (1 or −1) times the angles; laid out as `x`."""
    x = x if x.stride(-1) == 1 else x.contiguous()
    batch, heads, length, dim = x.shape
    out = torch.empty_like(x)
    cos, sin = (table.expand(batch, length, dim) for table in (cos, sin))
    cos, sin = (table if table.stride(-1) == 1 else table.contiguous() for table in (cos, sin))
    if x.numel():
        (warps,) = blocks("triton_rope", x.device, warps=4).values()
        on_grid(_rotate, batch * length)(
            x, out, cos, sin, heads, length, dim // 2,
            x.stride(0), x.stride(1), x.stride(2), out.stride(0), out.stride(1), out.stride(2),
            cos.stride(0), cos.stride(1), sin.stride(0), sin.stride(1),
            WAY=way, HEADS=power_of_two(heads), HALF=power_of_two(dim // 2), num_warps=warps,
        )  # fmt: skip
    return out


@triton.jit
def _rotate(
    x, out, cos, sin, heads, length, half,
    x_batch, x_head, x_token, out_batch, out_head, out_token, cos_batch, cos_token, sin_batch, sin_token,
    WAY: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    batch, token = (tl.program_id(0) // length).to(tl.int64), (tl.program_id(0) % length).to(tl.int64)
    head, column = tl.arange(0, HEADS)[:, None], tl.arange(0, HALF)[None, :]
    inside, wide = (head < heads) & (column < half), column < half
    where = x + batch * x_batch + token * x_token + head * x_head + column
    first = tl.cast(tl.load(where, mask=inside, other=0.0), tl.float32)
    second = tl.cast(tl.load(where + half, mask=inside, other=0.0), tl.float32)
    cosines, sines = cos + batch * cos_batch + token * cos_token + column, sin + batch * sin_batch + token * sin_token + column
    cos_first = tl.cast(tl.load(cosines, mask=wide, other=0.0), tl.float32)
    cos_second = tl.cast(tl.load(cosines + half, mask=wide, other=0.0), tl.float32)
    sin_first = tl.cast(tl.load(sines, mask=wide, other=0.0), tl.float32)
    sin_second = tl.cast(tl.load(sines + half, mask=wide, other=0.0), tl.float32)
    # The way back is the transpose, so each half takes the sine of the other one (equal in every model, not by definition).
    if WAY > 0:
        turned_first = first * cos_first - second * sin_first
        turned_second = second * cos_second + first * sin_second
    else:
        turned_first = first * cos_first + second * sin_second
        turned_second = second * cos_second - first * sin_first
    target = out + batch * out_batch + token * out_token + head * out_head + column
    tl.store(target, tl.cast(turned_first, out.dtype.element_ty), mask=inside)
    tl.store(target + half, tl.cast(turned_second, out.dtype.element_ty), mask=inside)
