"""Weighted cross entropy straight from hidden states, without the matrix of all logits.

For each token, nll = logsumexp(hidden @ weight.T) − (hidden @ weight.T)[target]; the loss is sum(weights · nll). Tokens of
weight 0 are dropped before the first FLOP, so a pack of which 30 % is supervised costs 30 %. The rest goes through in chunks of
tokens: a chunk of logits is turned into its own gradient in place, so one chunk of logits exists at a time. Computing
the gradient inside the forward pass is the idea of Liger's fused linear cross entropy (arXiv:2410.10989); dropping ignored tokens
first is that of Cut Cross-Entropy (arXiv:2411.09009). Token weights, a head in several tables of which some may rest, a float32
gradient of the head, which tokens were predicted right, and a fixed order of summation are what this one adds.

Each table's logits begin at a column that is a multiple of `ALIGNMENT`, and rows are as long, so that a vocabulary of any size is
read and multiplied in whole words of a GPU (Megatron-LM and nanochat pad the vocabulary itself). The columns between hold the
lowest number of the dtype, whose probability is 0.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from mmpt.kernels.blocks import blocks
from mmpt.kernels.choose import Kernel, choose

CHUNK_BYTES = 32 * 2**20  # of logits: they stay in a CPU's cache between the passes over them
MIN_CHUNK_TOKENS = 64
GPU_CHUNK_TOKENS = 4096  # fewer, and reading the head and its gradient once a chunk takes as long as multiplying
GRADIENT_SHARE = 4
ALIGNMENT = 64  # columns: 128 bytes of half precision, what a GPU's matrix units and 128-bit loads ask for


class LinearCrossEntropy(NamedTuple):
    """`loss` a scalar, differentiable; `nll` [N] detached, 0 where the weight is 0; `correct` [N] bool, whether no other logit is
    larger than the target's, false where the weight is 0."""

    loss: Tensor
    nll: Tensor
    correct: Tensor


def weighted_linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor | Sequence[Tensor],
    targets: Tensor,
    weights: Tensor,
    kernel: Kernel = "auto",
    kept: Tensor | None = None,
) -> LinearCrossEntropy:
    """Weighted sum of next-token losses, the loss of each token, and whether it was predicted right.

    hidden [N, H] floating, whose dtype the matrix products take; weight [V, H] the head, in any floating dtype, or several
    [V₁, H], [V₂, H], … whose rows count on; targets [N] int64 (any value where the weight is 0); weights [N] floating, 0 or more.
    Losses are float32 (float64 where `hidden` is), differentiable in `hidden` and `weight`. A table's gradient adds up over
    chunks in float32 and comes back in its dtype; one that needs none gets none and costs none. The result depends on nothing but
    the input: sums run in a fixed order. `kept` int64 [n]: the tokens whose weight is not 0, in order, where the caller knows
    them; without it, a GPU has to be asked how many there are, and waited for. Raises `ValueError` where the shapes do not agree.
    """
    tables = (weight,) if isinstance(weight, Tensor) else tuple(weight)
    shapes = [tuple(table.shape) for table in tables]
    if hidden.ndim != 2 or not tables or any(len(shape) != 2 or shape[1] != hidden.shape[1] for shape in shapes):
        raise ValueError(f"hidden {tuple(hidden.shape)} and weight {', '.join(map(str, shapes))}: expected [N, H] and [V, H]")
    if targets.shape != hidden.shape[:1] or weights.shape != hidden.shape[:1]:
        raise ValueError(f"targets {tuple(targets.shape)} and weights {tuple(weights.shape)}: expected [{hidden.shape[0]}]")
    if not torch.is_grad_enabled():  # else `needs_input_grad` would still ask for gradients that nobody reads
        hidden, tables = hidden.detach(), tuple(table.detach() for table in tables)
    with torch.autocast(hidden.device.type, enabled=False):  # the caller's dtype decides, not an autocast around it
        chosen = choose(kernel, hidden)
        found = _WeightedLinearCrossEntropy.apply(hidden, targets, weights, chosen, kept, *tables)
    return LinearCrossEntropy(*cast(tuple[Tensor, Tensor, Tensor], found))


def reference(hidden: Tensor, weight: Tensor | Sequence[Tensor], targets: Tensor, weights: Tensor) -> LinearCrossEntropy:
    """The same as `weighted_linear_cross_entropy` by plain PyTorch operations over the whole [N, V] matrix of logits."""
    precise = torch.promote_types(hidden.dtype, torch.float32)
    kept = weights != 0
    head = weight if isinstance(weight, Tensor) else torch.cat([table.to(precise) for table in weight])
    logits = F.linear(hidden, head.to(hidden.dtype)).to(precise)
    chosen = torch.where(kept, targets, 0)
    nll = F.cross_entropy(logits, chosen, reduction="none")
    nll = torch.where(kept, nll, torch.zeros((), dtype=precise, device=nll.device))
    correct = kept & (logits.gather(1, chosen[:, None]).squeeze(1) >= logits.amax(dim=1))
    return LinearCrossEntropy((weights.to(precise) * nll).sum(), nll.detach(), correct)


def chunk_tokens(
    vocabulary_size: int,
    width: int,
    element_bytes: int,
    learned: bool,
    chunk_bytes: int = CHUNK_BYTES,
    least: int = MIN_CHUNK_TOKENS,
) -> int:
    """Tokens in one chunk: as many as keep its logits within `chunk_bytes`, at `least` so many; with a head that is `learned`,
    whose gradient is there anyhow and read and written once a chunk, up to a quarter of that gradient's size."""
    least = max(least, width // GRADIENT_SHARE if learned else 0)
    return max(least, chunk_bytes // (vocabulary_size * element_bytes))


class _WeightedLinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: Tensor, targets: Tensor, weights: Tensor, kernel: str, kept: Tensor | None, *tables: Tensor):
        precise = torch.promote_types(hidden.dtype, torch.float32)
        needs_hidden, learned = ctx.needs_input_grad[0], ctx.needs_input_grad[5:]
        heads = [table.to(hidden.dtype) for table in tables]
        kept = torch.nonzero(weights != 0).squeeze(1) if kept is None else kept
        nll = torch.zeros(len(hidden), dtype=precise, device=hidden.device)
        correct = torch.zeros(len(hidden), dtype=torch.bool, device=hidden.device)
        grad_hidden = torch.zeros_like(hidden) if needs_hidden else None
        grads = [torch.zeros_like(t, dtype=precise) if needed else None for t, needed in zip(tables, learned, strict=True)]
        loss = torch.zeros((), dtype=precise, device=hidden.device)
        if kernel == "triton":
            from mmpt.kernels.triton_cross_entropy import losses_and_gradient
        else:
            losses_and_gradient = _losses_and_gradient
        first = _first_columns(tables)
        least = GPU_CHUNK_TOKENS if hidden.is_cuda else MIN_CHUNK_TOKENS
        limits = blocks("cross_entropy", hidden.device, chunk_bytes=CHUNK_BYTES, chunk_tokens=least)
        length = chunk_tokens(first[-1], hidden.shape[1], precise.itemsize, any(learned), *limits.values())
        # One piece of memory for all chunks: fresh pages cost as much as filling them.
        logits = hidden.new_empty(min(length, max(1, len(kept))), first[-1])
        targets = _columns(targets, tables)
        for index in kept.split(len(logits)):
            rows, scale = hidden[index], weights[index].to(precise)
            found, right, slope = losses_and_gradient(
                _logits(rows, heads, logits[: len(index)]), targets[index], scale, needs_hidden or any(learned)
            )
            nll[index], correct[index] = found, right
            loss += torch.dot(scale, found)
            if slope is None:
                continue
            parts = [slope[:, start : start + len(head)] for start, head in zip(first, heads, strict=False)]
            if grad_hidden is not None:
                grad_hidden[index] = _sum_of_products(parts, heads)
            for part, grad in zip(parts, grads, strict=True):
                if grad is not None:
                    _add_product(grad, part.T, rows)
        ctx.gradients = [grad_hidden, *grads]
        ctx.dtypes = [hidden.dtype, *(table.dtype for table in tables)]
        ctx.mark_non_differentiable(nll, correct)
        return loss, nll, correct

    # torch's stub names no gradients: it hands them over by position, one for each output.
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_loss: Tensor, _grad_nll: Tensor, _grad_correct: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        gradients = ctx.gradients
        if gradients is None:
            raise RuntimeError("weighted_linear_cross_entropy: a second backward pass, and the first did not retain the graph")
        # torch has no public name, and its stub none at all, for whether this backward pass was asked to retain the graph.
        if cast(Any, torch._C)._autograd._get_current_graph_task_keep_graph():  # another pass may come
            gradients = [None if gradient is None else gradient * grad_loss for gradient in gradients]
        else:  # in place: a copy would be as large as the head
            ctx.gradients = None
            gradients = [None if gradient is None else gradient.mul_(grad_loss) for gradient in gradients]
        grad_hidden, *grads = (None if g is None else g.to(dtype) for g, dtype in zip(gradients, ctx.dtypes, strict=True))
        return grad_hidden, None, None, None, None, *grads


def _first_columns(tables: Sequence[Tensor]) -> list[int]:
    """Where the logits of each table begin in a row, and last how long a row is."""
    found = [0]
    for table in tables:
        found.append(found[-1] + -(-len(table) // ALIGNMENT) * ALIGNMENT)
    return found


def _columns(targets: Tensor, tables: Sequence[Tensor]) -> Tensor:
    """Ids as columns of the logits: behind each table there may be some that are nobody's."""
    found, end = targets, 0
    for table in tables[:-1]:
        end += len(table)
        found = found + (targets >= end) * (-len(table) % ALIGNMENT)
    return found


def _logits(rows: Tensor, heads: Sequence[Tensor], out: Tensor) -> Tensor:
    lowest = torch.finfo(out.dtype).min
    for head, (first, following) in zip(heads, pairwise(_first_columns(heads)), strict=True):
        torch.mm(rows, head.T, out=out[:, first : first + len(head)])
        out[:, first + len(head) : following].fill_(lowest)
    return out


def _losses_and_gradient(
    logits: Tensor, targets: Tensor, scale: Tensor, needs_gradient: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(nll [n], correct [n], d Σ scale · nll / d logits in the dtype of `logits` [n, V], whose memory may be used)."""
    dtype, logits, target = logits.dtype, logits.to(scale.dtype), targets.unsqueeze(1)
    peak = logits.amax(dim=1, keepdim=True)
    score = logits.gather(1, target) - peak
    total = logits.sub_(peak).exp_().sum(dim=1, keepdim=True)
    nll, correct = (total.log() - score).squeeze(1), (score >= 0).squeeze(1)
    if not needs_gradient:
        return nll, correct, None
    # From here on the buffer holds scale · (softmax − one-hot).
    gradient = logits.mul_(scale.unsqueeze(1) / total)
    gradient.scatter_add_(1, target, -scale.unsqueeze(1))
    return nll, correct, gradient.to(dtype)


def _sum_of_products(parts: Sequence[Tensor], heads: Sequence[Tensor]) -> Tensor:
    """Σ part @ head, in order."""
    found = parts[0] @ heads[0]
    for part, head in zip(parts[1:], heads[1:], strict=True):
        found.addmm_(part, head)
    return found


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """`total` += `left` @ `right`, in the dtype of `total`."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    elif adds_products(left.device, left.dtype, total.dtype):
        # In its place, added up in float32 inside cuBLAS: no product as large as the head is written and read again.
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)
    elif left.is_cuda:
        # Rounding products of half precision before they are added up would lose the small ones.
        total += torch.mm(left, right, out_dtype=total.dtype)
    else:
        total += left @ right


@lru_cache
def adds_products(device: torch.device, dtype: torch.dtype, total: torch.dtype) -> bool:
    """Whether one call on `device` adds a product of matrices of `dtype` to a matrix of dtype `total`: tried once."""
    square, found = torch.zeros(64, 64, device=device, dtype=dtype), torch.zeros(64, 64, device=device, dtype=total)
    try:
        torch.addmm(found, square, square, out_dtype=total, out=found)
    except (TypeError, RuntimeError):  # an older torch; not implemented for the device
        return False
    return True
