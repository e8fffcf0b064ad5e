"""The terms of the image tokenizer's training loss, beside that of the quantiser."""

import itertools
from typing import Any, cast

import torch
import torch.distributed as dist
from torch.nn import functional as F


def pixel_loss(drawn: torch.Tensor, pixels: torch.Tensor, tolerance: int) -> torch.Tensor:
    """Mean of d² + |d| / 10 over the differences d of two images [B, 3, H, W], after the best shift of each neighbourhood.

    In every window of half the side (windows overlap by three quarters), `pixels` may be moved by up to `tolerance` pixels to
    where it fits best, so that a shape drawn crisply a pixel away costs nothing, but a blur over all positions it may be at does.
    The best of all shifts is also how the PROBA-V super-resolution score compares images (Märtens et al. 2019, eq. 3), there
    for the whole image at once.
    """
    height, width = pixels.shape[-2:]
    window = max(1, height // 2)
    padded = F.pad(pixels, (tolerance,) * 4, mode="replicate") if tolerance else pixels
    best: torch.Tensor | None = None
    for y, x in itertools.product(range(2 * tolerance + 1), repeat=2):
        difference = drawn - padded[..., y : y + height, x : x + width]
        error = (difference.square() + 0.1 * difference.abs()).mean(dim=1, keepdim=True)
        pooled = F.avg_pool2d(error, window, max(1, window // 4)) if tolerance else error
        best = pooled if best is None else torch.minimum(best, pooled)
    assert best is not None  # there is always the shift by nothing
    return best.mean()


def contrastive_loss(images: torch.Tensor, texts: torch.Tensor, ids: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Symmetric cross-entropy of image-text similarities (CLIP, Radford et al. 2021) with label smoothing 0.1, the mean over
    this rank's `images` [B, dim] and `texts` [B, dim], each against those of all ranks (of which each has as many).

    Images with the same caption (equal rows of `ids` [B, L], ids above 0, 0 pads) are right answers for each other, each with
    an equal share (UniCL, Yang et al. 2022, eq. 3): captions that are class names repeat within a batch. An image without a
    caption is no answer to anything and asks nothing; 0 where none has one.
    """
    images, texts = F.normalize(images.float(), dim=-1), F.normalize(texts.float(), dim=-1)
    everyone = of_ranks(ids)
    told, others = (ids != 0).any(dim=1), (everyone != 0).any(dim=1)
    same = ((ids[told][:, None] == everyone[others][None]).all(dim=-1)).float()
    targets = same / same.sum(dim=1, keepdim=True)
    scale = scale.clamp(max=4.6).exp()
    pairs = ((images, of_ranks(texts)), (texts, of_ranks(images)))
    logits = [one[told] @ all_[others].t() * scale for one, all_ in pairs]
    if not told.any():
        # Nothing, but of every parameter: ranks wait for each other's gradients.
        return logits[0].sum() + logits[1].sum()
    one, other = (F.cross_entropy(part, targets, label_smoothing=0.1) for part in logits)
    return (one + other) / 2


def of_ranks(rows: torch.Tensor) -> torch.Tensor:
    """`rows` [n, D] of rank 0, then of rank 1, …; n is the same on all. Gradients come back to the rank that a row is of."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows
    return cast(torch.Tensor, _Gathered.apply(rows))


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        ctx.rows = len(rows)
        found = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(found, rows.contiguous())
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> torch.Tensor:
        # A row's gradient is the sum of what every rank makes of it; each takes those of its own rows.
        gradient = grad_outputs[0].contiguous()
        dist.all_reduce(gradient)
        return gradient.split(ctx.rows)[dist.get_rank()]


def prediction_loss(states: torch.Tensor, predicted: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """Share of the variance of the states before quantisation that their prediction from the caption leaves open (1 − R²), over
    the images that are `told` [B] of by a caption; 0 where none is.

    Both are [B, queries, D]. Gradient flows both ways: the states move to where a small text model can follow, in the spirit
    of a prior learned along with the tokenizer (LARP, Wang et al. 2024). As a share of the batch's own variance it cannot be
    lowered by making all states alike.
    """
    states, predicted = states.float(), predicted.float()
    # At least one, so that every parameter has a gradient: of nothing, zeros.
    apart = (states - predicted)[told] if told.any() else 0 * (states - predicted)
    open_variance = apart.square().mean(dim=(0, 2))
    variance = (states - states.mean(dim=0)).square().mean(dim=(0, 2))
    return (open_variance / (variance + 1e-4)).mean()
