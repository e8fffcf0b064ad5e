"""y = x · Wᵀ with W = scale · B · A + S: low rank plus a fixed sparse support, SLTrain (Han et al. 2024, arXiv:2406.02214).

The published code builds W, and its dense gradient, whole and stores int64 places. Here places are int32, W exists for a block of
output rows at a time, and so does its gradient, of which only the supported entries are kept.
"""

from typing import cast

import torch
from torch import Tensor

from mmpt.kernels.blocks import blocks
from mmpt.kernels.choose import Kernel, choose

BLOCK_BYTES = 8 * 2**20  # of W, or of its gradient, at a time


def random_support(rows: int, columns: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """(starts int32 [rows + 1], columns int32 [entries]) of about `share` of all places, the same number in each row, sorted: the
    CSR form of S. A pure function of its arguments."""
    each = max(1, round(share * columns))
    draw = torch.Generator().manual_seed(seed)
    found = torch.rand(rows, columns, generator=draw).topk(each, dim=1).indices.sort(dim=1).values
    return torch.arange(0, rows * each + 1, each, dtype=torch.int32), found.flatten().to(torch.int32)


def sparse_low_rank_linear(
    x: Tensor, b: Tensor, a: Tensor, starts: Tensor, columns: Tensor, values: Tensor, scale: float = 1.0, kernel: Kernel = "auto"
) -> Tensor:
    """`x` [..., I] → [..., O] with `b` [O, r], `a` [r, I], and S by `starts` int32 [O + 1], `columns` int32 [E] (sorted in each
    row, each at most once) and `values` [E]. Gradient for `x`, `b`, `a` and `values`; all of one floating dtype."""
    shapes = f"b {tuple(b.shape)}, a {tuple(a.shape)}, x {tuple(x.shape)}"
    if b.shape[1] != a.shape[0] or a.shape[1] != x.shape[-1]:
        raise ValueError(f"{shapes}: expected [O, r], [r, I], [..., I]")
    if starts.shape != (len(b) + 1,) or columns.shape != values.shape:
        found = f"starts {tuple(starts.shape)}, columns {tuple(columns.shape)}, values {tuple(values.shape)}"
        raise ValueError(f"{found}: expected [{len(b) + 1}], [E], [E]")
    if starts.dtype != torch.int32 or columns.dtype != torch.int32:
        raise ValueError(f"starts {starts.dtype}, columns {columns.dtype}: expected int32")
    rows = x.reshape(-1, x.shape[-1])
    found = cast(Tensor, _SparseLowRank.apply(rows, b, a, starts, columns, values, scale, choose(kernel, x)))
    return found.view(*x.shape[:-1], len(b))


def dense_weight(b: Tensor, a: Tensor, starts: Tensor, columns: Tensor, values: Tensor, scale: float = 1.0) -> Tensor:
    """W [O, I], differentiable, by plain PyTorch operations."""
    rows = torch.repeat_interleave(torch.arange(len(b), device=b.device), starts.long().diff())
    return torch.index_put(scale * (b @ a), (rows, columns.long()), values, accumulate=True)


def reference(x: Tensor, b: Tensor, a: Tensor, starts: Tensor, columns: Tensor, values: Tensor, scale: float = 1.0) -> Tensor:
    """The same through the dense W."""
    return x @ dense_weight(b, a, starts, columns, values, scale).T


class _SparseLowRank(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, b: Tensor, a: Tensor, starts: Tensor, columns: Tensor, values: Tensor, scale: float, kernel: str):
        ctx.save_for_backward(x, b, a, starts, columns, values)
        ctx.scale, ctx.kernel = scale, kernel
        if kernel == "triton":
            from mmpt.kernels.triton_sparse_linear import times_sparse

            low = torch.addmm(x.new_zeros(1), x @ a.T, b.T, beta=0, alpha=scale)
            return times_sparse(x, starts, columns, values, low)
        out = x.new_empty(len(x), len(b))
        for first, last, weight in _blocks(b, a, starts, columns, values, scale):
            torch.mm(x, weight.T, out=out[:, first:last])
        return out

    # torch's stub names no gradients: it hands them over by position, one for each output.
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, b, a, starts, columns, values = ctx.saved_tensors
        scale, (grad_x, grad_values) = ctx.scale, (None, None)
        needs_x, needs_b, needs_a = ctx.needs_input_grad[:3]
        needs_values = ctx.needs_input_grad[5]
        if needs_values:
            grad_values = _sampled(grad, x, starts, columns, ctx.kernel)
        if needs_x:
            grad_x = torch.zeros_like(x)
            for first, last, weight in _blocks(b, a, starts, columns, values, scale):
                grad_x.addmm_(grad[:, first:last], weight)
        grad_b = scale * (grad.T @ (x @ a.T)) if needs_b else None
        grad_a = scale * ((grad @ b).T @ x) if needs_a else None
        return grad_x, grad_b, grad_a, None, None, grad_values, None, None


def _blocks(b: Tensor, a: Tensor, starts: Tensor, columns: Tensor, values: Tensor, scale: float):
    """(first, last, W[first:last]) of blocks of output rows; the same memory each time."""
    step = _rows_at_a_time(a)
    edges = starts[list(range(0, len(b), step)) + [len(b)]].tolist()
    memory = a.new_empty(min(step, len(b)), a.shape[1])
    for number, first in enumerate(range(0, len(b), step)):
        last = min(first + step, len(b))
        weight = torch.mm(b[first:last], a, out=memory[: last - first]).mul_(scale)
        chosen = slice(edges[number], edges[number + 1])
        weight.view(-1).index_add_(0, _places(starts, columns, first, last, chosen, a.shape[1]), values[chosen])
        yield first, last, weight


def _rows_at_a_time(like: Tensor) -> int:
    """Rows of W, whose width and dtype are those of `like`, in one block."""
    size = blocks("sparse_linear", like.device, block_bytes=BLOCK_BYTES)["block_bytes"]
    return max(1, size // (like.shape[1] * like.element_size()))


def _places(starts: Tensor, columns: Tensor, first: int, last: int, chosen: slice, width: int) -> Tensor:
    """Where the entries of rows `first` to `last` lie in the flat block of those rows."""
    counts = starts[first : last + 1].diff()
    rows = torch.repeat_interleave(torch.arange(last - first, device=starts.device, dtype=torch.int32), counts)
    return rows * width + columns[chosen]


def _sampled(grad: Tensor, x: Tensor, starts: Tensor, columns: Tensor, kernel: str) -> Tensor:
    """Entries of gradᵀ · x on the support: [E]."""
    if kernel == "triton":
        from mmpt.kernels.triton_sparse_linear import sampled

        return sampled(grad, x, starts, columns)
    found = []
    width = x.shape[1]
    step = _rows_at_a_time(x)
    edges = starts[list(range(0, len(starts) - 1, step)) + [len(starts) - 1]].tolist()
    for number, first in enumerate(range(0, len(starts) - 1, step)):
        last = min(first + step, len(starts) - 1)
        block = grad[:, first:last].T @ x
        chosen = slice(edges[number], edges[number + 1])
        found.append(block.view(-1)[_places(starts, columns, first, last, chosen, width)])
    return torch.cat(found) if found else x.new_zeros(0)
