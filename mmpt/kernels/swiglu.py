"""SwiGLU's activation, silu(gate) · up (Shazeer 2020, arXiv:2002.05202). The backward pass recomputes silu from `gate`."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from mmpt.kernels.choose import Kernel, choose


def swiglu(gate: Tensor, up: Tensor, kernel: Kernel = "auto") -> Tensor:
    """`gate`, `up` and the result have one shape and floating dtype; float32 inside."""
    if gate.shape != up.shape or gate.dtype != up.dtype:
        raise ValueError(f"up {up.dtype} {tuple(up.shape)}: expected {gate.dtype} {tuple(gate.shape)}, as gate")
    return cast(Tensor, _Swiglu.apply(gate, up, choose(kernel, gate)))


def reference(gate: Tensor, up: Tensor) -> Tensor:
    """The same by plain PyTorch operations."""
    precise = torch.promote_types(gate.dtype, torch.float32)
    return (F.silu(gate.to(precise)) * up.to(precise)).to(gate.dtype)


class _Swiglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gate: Tensor, up: Tensor, kernel: str) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.kernel = kernel
        if kernel == "triton":
            from mmpt.kernels.triton_swiglu import forward

            return forward(gate, up)
        precise = torch.promote_types(gate.dtype, torch.float32)
        return F.silu(gate.to(precise)).mul_(up).to(gate.dtype)

    # torch's stub names no gradients: it hands them over by position, one for each output.
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        gate, up = ctx.saved_tensors
        if ctx.kernel == "triton":
            from mmpt.kernels.triton_swiglu import backward

            return *backward(grad, gate, up), None
        precise = torch.promote_types(gate.dtype, torch.float32)
        value, grad = gate.to(precise), grad.to(precise)
        grad_up = F.silu(value).mul_(grad)
        grad_gate = torch.ops.aten.silu_backward(grad * up, value)
        return grad_gate.to(gate.dtype), grad_up.to(up.dtype), None
