"""Rotary position embedding of queries and keys (Su et al. 2021, arXiv:2104.09864), half against half as in transformers.

Positions come as tables of cosines and sines, one row for each token, so that they may restart with each document of a pack. The
backward pass is the same rotation the other way round.
"""

from typing import cast

import torch
from torch import Tensor

from mmpt.kernels.choose import Kernel, choose


def rope_tables(positions: Tensor, head_dim: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """(cos, sin) float32 [B, T, head_dim] of `positions` int [B, T]; both halves are equal."""
    if head_dim % 2:
        raise ValueError(f"head_dim {head_dim} is odd")
    steps = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = positions[..., None].float() * theta**-steps
    return torch.cat([angles, angles], dim=-1).cos(), torch.cat([angles, angles], dim=-1).sin()


def rope(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, kernel: Kernel = "auto") -> tuple[Tensor, Tensor]:
    """Rotated `query` [B, heads, T, D] and `key` [B, key_value_heads, T, D] by `cos` and `sin` [B or 1, T, D], which take no
    gradient. Results have the dtypes of `query` and `key`; float32 inside."""
    batch, _, length, dim = query.shape
    for name, table in (("cos", cos), ("sin", sin)):
        if table.shape[0] not in (1, batch) or table.shape[1:] != (length, dim):
            raise ValueError(f"{name} {tuple(table.shape)}: expected [{batch} or 1, {length}, {dim}]")
    if key.shape[0] != batch or key.shape[2:] != query.shape[2:]:
        raise ValueError(f"key {tuple(key.shape)}: expected [{batch}, heads, {length}, {dim}]")
    if dim % 2:
        raise ValueError(f"query {tuple(query.shape)}: the last dimension is odd")
    chosen = choose(kernel, query)
    return cast(tuple[Tensor, Tensor], tuple(_Rope.apply(part, cos, sin, chosen) for part in (query, key)))


def reference(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`x` [B, heads, T, D] rotated by plain PyTorch operations."""
    precise = torch.promote_types(x.dtype, torch.float32)
    first, second = x.to(precise).chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (x.to(precise) * cos.to(precise).unsqueeze(1) + turned * sin.to(precise).unsqueeze(1)).to(x.dtype)


class _Rope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, cos: Tensor, sin: Tensor, kernel: str) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.kernel = kernel
        return _rotated(x, cos, sin, 1, kernel)

    # torch's stub names no gradients: it hands them over by position, one for each output.
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        cos, sin = ctx.saved_tensors
        return _rotated(grad, cos, sin, -1, ctx.kernel), None, None, None


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, way: int, kernel: str) -> Tensor:
    if kernel == "triton":
        from mmpt.kernels.triton_rope import rotated

        return rotated(x, cos, sin, way)
    half = x.shape[-1] // 2
    precise = torch.promote_types(x.dtype, torch.float32)
    cos, sin = cos.to(precise).unsqueeze(1), sin.to(precise).unsqueeze(1)
    # Forward: first · cos − second · sin and second · cos + first · sin; back: the transpose of that.
    before, after = (sin[..., :half], sin[..., half:]) if way > 0 else (-sin[..., half:], -sin[..., :half])
    value = x.to(precise)
    out = value * cos
    out[..., :half].addcmul_(value[..., half:], before, value=-1)
    out[..., half:].addcmul_(value[..., :half], after)
    return out.to(x.dtype)
