"""Losses of single targets of a pack, for objectives that are functions of them; never the matrix of all logits."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmpt.kernels.cross_entropy import weighted_linear_cross_entropy


def target_losses(hidden: Tensor, tables: Sequence[Tensor], targets: Tensor, kept: Tensor) -> Tensor:
    """−ln p [T] of the `targets` int64 [T] at the places `kept`, after the states `hidden` [T, H]; 0 elsewhere. Not
    differentiable."""
    ones = torch.zeros(len(hidden), device=hidden.device).index_fill(0, kept, 1.0)
    with torch.no_grad():
        return weighted_linear_cross_entropy(_cast(hidden), tables, targets, ones, kept=kept).nll


def signed_loss(hidden: Tensor, tables: Sequence[Tensor], targets: Tensor, weights: Tensor, more: Tensor, less: Tensor) -> Tensor:
    """Σ weight · −ln p, differentiable in `hidden` and `tables`; `weights` [T] are 0 or more at the places `more`, 0 or less at
    `less`, which the kernel of the loss does not know."""
    hidden = _cast(hidden)
    one = weighted_linear_cross_entropy(hidden, tables, targets, weights.clamp(min=0), kept=more).loss
    return one - weighted_linear_cross_entropy(hidden, tables, targets, (-weights).clamp(min=0), kept=less).loss


def _cast(hidden: Tensor) -> Tensor:
    """As the products of the decoder take it."""
    kind = hidden.device.type
    return hidden.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else hidden
