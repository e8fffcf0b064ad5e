"""Weighted cross entropy straight from hidden states, without the matrix of all logits.

For each token, nll = logsumexp(hidden @ weight.T) − (hidden @ weight.T)[target]; the loss is sum(weights · nll). Tokens of
weight 0 are dropped before the first FLOP, so a pack of which 30 % is supervised costs 30 %. The rest goes through in chunks of
tokens: a chunk of logits is turned into its own gradient in place, so at most `CHUNK_BYTES` of logits exist at a time. Computing
the gradient inside the forward pass is the idea of Liger's fused linear cross entropy (arXiv:2410.10989); dropping ignored tokens
first is that of Cut Cross-Entropy (arXiv:2411.09009). Token weights, a float32 gradient of the head and a fixed order of
summation are what this one adds.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_BYTES = 32 * 2**20
MIN_CHUNK_TOKENS = 64


def weighted_linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted sum of next-token losses and the loss of each token.

    hidden [N, H] floating, whose dtype the matrix products take; weight [V, H] the head, in any floating dtype; targets [N] int64
    (any value where the weight is 0); weights [N] floating, 0 or more. Returns (loss_sum, nll): a scalar, differentiable in
    `hidden` and `weight`, and [N] detached, 0 where the weight is 0; both float32 (float64 where `hidden` is). The head's
    gradient adds up over chunks in float32 and comes back in the head's dtype. A head that needs none gets none and costs none.
    The result depends on nothing but the input: sums run in a fixed order. Raises `ValueError` where the shapes do not agree.
    """
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(f"hidden {tuple(hidden.shape)} and weight {tuple(weight.shape)}: expected [N, H] and [V, H]")
    if targets.shape != hidden.shape[:1] or weights.shape != hidden.shape[:1]:
        raise ValueError(f"targets {tuple(targets.shape)} and weights {tuple(weights.shape)}: expected [{hidden.shape[0]}]")
    if not torch.is_grad_enabled():  # else `needs_input_grad` would still ask for gradients that nobody reads
        hidden, weight = hidden.detach(), weight.detach()
    with torch.autocast(hidden.device.type, enabled=False):  # the caller's dtype decides, not an autocast around it
        return _WeightedLinearCrossEntropy.apply(hidden, weight, targets, weights)


def reference(hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The same as `weighted_linear_cross_entropy` by plain PyTorch operations over the whole [N, V] matrix of logits."""
    precise = torch.promote_types(hidden.dtype, torch.float32)
    kept = weights != 0
    logits = F.linear(hidden, weight.to(hidden.dtype)).to(precise)
    nll = F.cross_entropy(logits, torch.where(kept, targets, 0), reduction="none")
    nll = torch.where(kept, nll, torch.zeros((), dtype=precise, device=nll.device))
    return (weights.to(precise) * nll).sum(), nll.detach()


def chunk_tokens(vocabulary_size: int, element_bytes: int) -> int:
    """Tokens in one chunk: as many as keep its logits within `CHUNK_BYTES`, at least `MIN_CHUNK_TOKENS`."""
    return max(MIN_CHUNK_TOKENS, CHUNK_BYTES // (vocabulary_size * element_bytes))


class _WeightedLinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        precise = torch.promote_types(hidden.dtype, torch.float32)
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        head = weight.to(hidden.dtype)
        kept = torch.nonzero(weights != 0).squeeze(1)
        nll = torch.zeros(len(hidden), dtype=precise, device=hidden.device)
        grad_hidden = torch.zeros_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=precise) if needs_weight else None
        loss = torch.zeros((), dtype=precise, device=hidden.device)
        for index in kept.split(chunk_tokens(len(head), precise.itemsize)):
            rows, scale = hidden[index], weights[index].to(precise)
            logits = F.linear(rows, head).to(precise)
            target = targets[index].unsqueeze(1)
            peak = logits.amax(dim=1, keepdim=True)
            score = logits.gather(1, target) - peak
            total = logits.sub_(peak).exp_().sum(dim=1, keepdim=True)
            losses = (total.log() - score).squeeze(1)
            nll[index] = losses
            loss += torch.dot(scale, losses)
            if needs_hidden or needs_weight:
                # From here on the buffer holds d loss / d logits = scale · (softmax − one-hot).
                gradient = logits.mul_(scale.unsqueeze(1) / total)
                gradient.scatter_add_(1, target, -scale.unsqueeze(1))
                low = gradient.to(head.dtype)
                if needs_hidden:
                    grad_hidden[index] = low @ head
                if needs_weight and low.dtype == precise:
                    grad_weight.addmm_(low.T, rows)
                elif needs_weight:
                    grad_weight += low.T @ rows
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.weight_dtype = weight.dtype
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_loss: Tensor, _grad_nll: Tensor):
        grad_hidden, grad_weight = ctx.saved_tensors
        if grad_hidden is not None:
            grad_hidden = (grad_hidden * grad_loss).to(grad_hidden.dtype)
        if grad_weight is not None:
            grad_weight = (grad_weight * grad_loss).to(ctx.weight_dtype)
        return grad_hidden, grad_weight, None, None
