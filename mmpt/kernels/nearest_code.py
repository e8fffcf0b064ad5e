"""Nearest codebook entry: argmin over k of ‖x − c_k‖², without ever holding all distances."""

import torch

from mmpt.kernels.blocks import blocks
from mmpt.kernels.choose import Kernel, choose

CHUNK_BYTES = 4 * 2**20  # of distances at a time: they stay in a CPU's cache until the argmin has read them
MIN_CHUNK, MAX_CHUNK = 64, 4096  # rows: fewer starve the matrix product
FUSED_DIM = 512
"""Widest entries for which the fused kernel is taken by `auto`: beyond, one matrix product and an argmin cost less."""


def nearest_code(x: torch.Tensor, codebook: torch.Tensor, kernel: Kernel = "auto") -> torch.Tensor:
    """Index of the nearest entry of `codebook` [K, D] for each row of `x` [N, D], as int64 [N].

    ‖x‖² does not change the argmin and is left out, so each chunk is one `addmm`. Computed in float32 whatever the inputs'
    dtype: in bf16 near neighbours would collide. Among exactly equal distances the lowest index wins; rounding may break a tie.
    """
    x, codebook = x.detach().float(), codebook.detach().float()
    if kernel == "auto" and x.shape[1] > FUSED_DIM:
        kernel = "torch"
    if choose(kernel, x) == "triton":
        from mmpt.kernels.triton_nearest_code import nearest

        return nearest(x, codebook)
    bias = codebook.square().sum(dim=1)
    table = codebook.t()
    chunk = blocks("nearest_code", x.device, chunk_bytes=CHUNK_BYTES)["chunk_bytes"]
    rows = max(MIN_CHUNK, min(MAX_CHUNK, chunk // (4 * len(codebook))))
    with torch.autocast(x.device.type, enabled=False):
        parts = [torch.addmm(bias, part, table, alpha=-2.0).argmin(dim=1) for part in x.split(rows)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64, device=x.device)


def nearest_code_reference(x: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """The same by its definition: all distances in float32."""
    return torch.cdist(x.float(), codebook.float()).argmin(dim=1)
