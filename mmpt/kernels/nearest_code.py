"""Nearest codebook entry: argmin over k of ‖x − c_k‖², without ever holding all distances."""

import torch

CHUNK = 4096  # rows at a time: CHUNK × K distances stay in a CPU's cache for the codebooks in use


def nearest_code(x: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """Index of the nearest entry of `codebook` [K, D] for each row of `x` [N, D], as int64 [N].

    ‖x‖² does not change the argmin and is left out, so each chunk is one `addmm`. Computed in float32 whatever the inputs'
    dtype: in bf16 near neighbours would collide. Among exactly equal distances the lowest index wins; rounding may break a tie.
    """
    codebook = codebook.float()
    bias = codebook.square().sum(dim=1)
    table = codebook.t()
    with torch.autocast(x.device.type, enabled=False):
        parts = [torch.addmm(bias, rows.float(), table, alpha=-2.0).argmin(dim=1) for rows in x.split(CHUNK)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64, device=x.device)


def nearest_code_reference(x: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """The same by its definition: all distances in float32."""
    return torch.cdist(x.float(), codebook.float()).argmin(dim=1)
