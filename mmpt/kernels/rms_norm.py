"""RMSNorm, with or without the residual sum before it (Zhang and Sennrich 2019, arXiv:1910.07467).

y = x · rsqrt(mean(x²) + eps) · (weight + offset), all in float32 inside, whatever the dtype outside. `offset` is 1 in Gemma,
whose weights start at 0. Fused with the residual, x + residual is read once and its gradient goes to both. The backward pass
keeps one float32 a row (the rsqrt) and recomputes the rest; adding up the weight's gradient has a fixed order.
"""

from typing import cast

import torch
from torch import Tensor

from mmpt.kernels.choose import Kernel, choose


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6, offset: float = 0.0, kernel: Kernel = "auto") -> Tensor:
    """Of the last dimension of `x` [..., H] floating; `weight` [H]. The result has the dtype of `x`; under autocast that of a
    float32 `x` has autocast's, in which each of the products that read a norm would make a copy of it."""
    return cast(tuple[Tensor, Tensor], _RmsNorm.apply(x, None, weight, eps, offset, choose(kernel, x), _result(x)))[0]


def add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float = 1e-6, offset: float = 0.0, kernel: Kernel = "auto"
) -> tuple[Tensor, Tensor]:
    """(norm of x + residual, x + residual), each [..., H]; `residual` has the shape and dtype of `x`. The norm's dtype is that of
    `rms_norm`, the sum's that of `x`."""
    if residual.shape != x.shape or residual.dtype != x.dtype:
        found = f"residual {residual.dtype} {tuple(residual.shape)}"
        raise ValueError(f"{found}: expected {x.dtype} {tuple(x.shape)}, as x")
    return cast(tuple[Tensor, Tensor], _RmsNorm.apply(x, residual, weight, eps, offset, choose(kernel, x), _result(x)))


def reference(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, offset: float) -> tuple[Tensor, Tensor]:
    """(norm, sum) by plain PyTorch operations."""
    total = x if residual is None else x + residual
    precise = total.to(_precise(x))
    normed = precise * torch.rsqrt(precise.square().mean(dim=-1, keepdim=True) + eps)
    return (normed * (weight.to(precise.dtype) + offset)).to(x.dtype), total


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, offset: float, kernel: str, dtype: torch.dtype
    ):
        if weight.shape != x.shape[-1:]:
            raise ValueError(f"weight {tuple(weight.shape)}: expected [{x.shape[-1]}], the last dimension of x")
        rows = x.reshape(-1, x.shape[-1])
        added = None if residual is None else residual.reshape(rows.shape)
        if kernel == "triton":
            from mmpt.kernels.triton_rms_norm import forward
        else:
            forward = _forward
        normed, total, scale = forward(rows, added, weight, eps, offset, dtype)
        ctx.save_for_backward(total, weight, scale)
        ctx.offset, ctx.kernel, ctx.fused = offset, kernel, residual is not None
        total = total.view(x.shape) if ctx.fused else x.detach()
        ctx.set_materialize_grads(False)  # of the sum that nobody reads: zeros as large as x
        if not ctx.fused:
            ctx.mark_non_differentiable(total)
        return normed.view(x.shape), total

    # torch's stub names no gradients: it hands them over by position, one for each output.
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor | None, grad_total: Tensor | None):  # pyright: ignore[reportIncompatibleMethodOverride]
        total, weight, scale = ctx.saved_tensors
        if grad is None and grad_total is None:
            return (None,) * 7
        shape = cast(Tensor, grad_total if grad is None else grad).shape
        rows = torch.zeros_like(total) if grad is None else grad.reshape(total.shape)
        beside = None if grad_total is None else grad_total.reshape(total.shape)
        if ctx.kernel == "triton":
            from mmpt.kernels.triton_rms_norm import backward
        else:
            backward = _backward
        grad_x, grad_weight = backward(rows, beside, total, weight, scale, ctx.offset, ctx.needs_input_grad[2])
        grad_x = grad_x.view(shape)
        return grad_x, grad_x if ctx.fused else None, grad_weight, None, None, None, None


def _result(x: Tensor) -> torch.dtype:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if x.dtype == torch.float32 and torch.is_autocast_enabled(kind) else x.dtype


def _precise(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _forward(
    rows: Tensor, residual: Tensor | None, weight: Tensor, eps: float, offset: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    total = rows if residual is None else rows + residual
    precise = total.to(_precise(rows))
    # A vector product a row, without the matrix of squares.
    squares = torch.linalg.vector_norm(precise, dim=1, keepdim=True).square_()
    scale = (squares / rows.shape[1] + eps).rsqrt_()
    return (precise * scale).mul_(weight.to(precise.dtype) + offset).to(dtype), total, scale


def _backward(
    grad: Tensor, beside: Tensor | None, total: Tensor, weight: Tensor, scale: Tensor, offset: float, needs_weight: bool
) -> tuple[Tensor, Tensor | None]:
    # What the Triton kernel recomputes in registers: the normed rows, from the sum and one number a row.
    normed = total.to(scale.dtype) * scale
    grad = grad.to(scale.dtype)
    grad_weight = torch.linalg.vecdot(grad, normed, dim=0).to(weight.dtype) if needs_weight else None
    wanted = grad * (weight.to(scale.dtype) + offset)
    along = torch.linalg.vecdot(wanted, normed, dim=1).unsqueeze(1) / total.shape[1]
    grad_x = wanted.sub_(normed.mul_(along)).mul_(scale)
    if beside is not None:
        grad_x += beside
    return grad_x.to(total.dtype), grad_weight
