"""Lookup in two tables, one after the other: rows of a frozen text vocabulary, and new rows that learn.

The gradient is that of the new rows alone, of their size; a dense gradient of a text vocabulary (V · H, most of it zero) is what
makes an ordinary embedding's backward pass slow. Each row adds up its tokens in an order that the ids alone decide, so two runs
give the same bits. On a GPU no shape depends on the ids: nothing there has to be waited for.
"""

from typing import cast

import torch
from torch import Tensor

from mmpt.kernels.choose import Kernel, choose


def two_table_embedding(ids: Tensor, frozen: Tensor, new: Tensor, kernel: Kernel = "auto") -> Tensor:
    """Rows [..., H] of `ids` int64 [...]: of `frozen` [V, H] below V, of `new` [M, H] from V on. Gradient for `new` only.

    Both tables have one dtype. Raises `IndexError` on an id outside 0 … V + M − 1, on a CPU; on a GPU ids are not looked at.
    """
    if frozen.shape[1:] != new.shape[1:] or frozen.dtype != new.dtype:
        raise ValueError(f"new {new.dtype} {tuple(new.shape)}: expected {frozen.dtype} [rows, {frozen.shape[1]}]")
    if not ids.is_cuda and ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < len(frozen) + len(new):
        raise IndexError(f"ids from {int(ids.min())} to {int(ids.max())}, expected 0 … {len(frozen) + len(new) - 1}")
    return cast(Tensor, _TwoTables.apply(ids, frozen.detach(), new, choose(kernel, new)))


def reference(ids: Tensor, frozen: Tensor, new: Tensor) -> Tensor:
    """The same by one table of both."""
    return torch.nn.functional.embedding(ids, torch.cat([frozen.detach(), new]))


class _TwoTables(torch.autograd.Function):
    @staticmethod
    def forward(ctx, ids: Tensor, frozen: Tensor, new: Tensor, kernel: str) -> Tensor:
        flat = ids.reshape(-1)
        ctx.save_for_backward(flat)
        ctx.old, ctx.rows, ctx.kernel = len(frozen), len(new), kernel
        if kernel == "triton":
            from mmpt.kernels.triton_embedding import gathered

            found = gathered(flat, frozen, new)
        else:
            found = _looked_up(flat, frozen, new)
        return found.view(*ids.shape, new.shape[1])

    # torch's stub names no gradients: it hands them over by position, one for each output.
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        (flat,) = ctx.saved_tensors
        rows = grad.reshape(len(flat), grad.shape[-1])
        # Sorted by row, stably: the tokens of a row lie together, in their order, those of new row m from starts[m] on.
        ids, order = torch.sort(flat, stable=True)
        starts = torch.searchsorted(ids, torch.arange(ctx.old, ctx.old + ctx.rows + 1, device=ids.device))
        if ctx.kernel == "triton":
            from mmpt.kernels.triton_embedding import summed

            return None, None, summed(rows, ids, order, starts, ctx.old), None
        precise = torch.promote_types(grad.dtype, torch.float32)
        if grad.is_cuda:  # index_add_ would add in no order; the frozen rows are one more, the first
            lengths = torch.diff(starts, prepend=starts.new_zeros(1))
            found = torch.segment_reduce(rows[order].to(precise), "sum", lengths=lengths, unsafe=True, initial=0.0)[1:]
        else:
            first = int(starts[0])
            found = torch.zeros(ctx.rows, rows.shape[1], dtype=precise, device=grad.device)
            found.index_add_(0, ids[first:] - ctx.old, rows[order[first:]].to(precise))
        return None, None, found.to(grad.dtype), None


def _looked_up(ids: Tensor, frozen: Tensor, new: Tensor) -> Tensor:
    """Rows [N, H] of `ids` [N]; on a GPU by a row of either table for each, on a CPU without those that are not asked for."""
    if not len(frozen):
        return new.index_select(0, ids)
    found = frozen.index_select(0, ids.clamp(max=len(frozen) - 1))
    if ids.is_cuda and len(new):
        return torch.where((ids >= len(frozen))[:, None], new.index_select(0, (ids - len(frozen)).clamp(min=0)), found)
    places = (ids >= len(frozen)).nonzero().squeeze(1)
    return found.index_copy_(0, places, new.index_select(0, ids[places] - len(frozen)))
