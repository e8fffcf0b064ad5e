"""Which implementation of a kernel runs: by name, or the best that the tensors' device has."""

import importlib.util
import os
from typing import Literal

import torch

Kernel = Literal["auto", "torch", "triton"]
"""`torch`: PyTorch operations, on any device. `triton`: one fused kernel, on GPUs, or on CPUs under TRITON_INTERPRET=1."""


def choose(kernel: Kernel, tensor: torch.Tensor) -> Literal["torch", "triton"]:
    """The implementation for `tensor`. Raises `ValueError` where the named one cannot run, with the reason."""
    if kernel == "torch":
        return "torch"
    reason = why_not_triton(tensor)
    if kernel == "triton":
        if reason:
            raise ValueError(f"kernel: triton cannot run here: {reason}")
        return "triton"
    if kernel != "auto":
        raise ValueError(f"kernel: {kernel!r}, expected auto, torch or triton")
    return "triton" if tensor.is_cuda and not reason else "torch"


def why_not_triton(tensor: torch.Tensor) -> str:
    """Why no Triton kernel can take `tensor`, or "" where one can."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"it takes float32, float16 and bfloat16, not {str(tensor.dtype).removeprefix('torch.')}"
    if tensor.is_cuda:
        return ""
    if os.environ.get("TRITON_INTERPRET") != "1":
        return f"the tensors are on {tensor.device.type}, and TRITON_INTERPRET=1 is not set"
    # The interpreter multiplies bfloat16 wrongly without a word, and truncates where a GPU rounds (triton issue 11584).
    return "the interpreter computes bfloat16 wrongly" if tensor.dtype == torch.bfloat16 else ""
