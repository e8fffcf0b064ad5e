"""SwiGLU's Triton kernels; see swiglu.py."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmpt.kernels.blocks import blocks
from mmpt.kernels.launch import ceil_divide, on_grid

SIZES = {"elements": 4096, "warps": 8}


def forward(gate: Tensor, up: Tensor) -> Tensor:
    gate, up = gate.contiguous(), up.contiguous()
    out = torch.empty_like(gate)
    if gate.numel():
        block, warps = blocks("triton_swiglu", gate.device, **SIZES).values()
        on_grid(_forward, ceil_divide(gate.numel(), block))(gate, up, out, gate.numel(), BLOCK=block, num_warps=warps)
    return out


def backward(grad: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    grad, gate, up = (part.contiguous() for part in (grad, gate, up))
    grad_gate, grad_up = torch.empty_like(gate), torch.empty_like(up)
    if gate.numel():
        block, warps = blocks("triton_swiglu", gate.device, **SIZES).values()
        run = on_grid(_backward, ceil_divide(gate.numel(), block))
        run(grad, gate, up, grad_gate, grad_up, gate.numel(), BLOCK=block, num_warps=warps)
    return grad_gate, grad_up


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.math.exp(-x))


@triton.jit
def _forward(gate, up, out, count, BLOCK: tl.constexpr):
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < count
    value = tl.cast(tl.load(gate + places, mask=inside, other=0.0), tl.float32)
    other = tl.cast(tl.load(up + places, mask=inside, other=0.0), tl.float32)
    tl.store(out + places, tl.cast(value * _sigmoid(value) * other, out.dtype.element_ty), mask=inside)


@triton.jit
def _backward(grad, gate, up, grad_gate, grad_up, count, BLOCK: tl.constexpr):
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < count
    slope = tl.cast(tl.load(grad + places, mask=inside, other=0.0), tl.float32)
    value = tl.cast(tl.load(gate + places, mask=inside, other=0.0), tl.float32)
    other = tl.cast(tl.load(up + places, mask=inside, other=0.0), tl.float32)
    share = _sigmoid(value)
    silu = value * share
    tl.store(grad_up + places, tl.cast(slope * silu, grad_up.dtype.element_ty), mask=inside)
    # silu′ = σ + x·σ·(1 − σ), and x·σ is there already.
    found = slope * other * (share + silu * (1.0 - share))
    tl.store(grad_gate + places, tl.cast(found, grad_gate.dtype.element_ty), mask=inside)
