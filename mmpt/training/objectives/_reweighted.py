"""`reweighted` at work."""

import torch
from peft import PeftModel
from torch import Tensor
from torch import distributed as dist
from transformers import PreTrainedModel

from mmpt.data.loading.packing import PackedBatch
from mmpt.model.forward import Decoded, next_token_terms, token_losses
from mmpt.tokenizers.terms import Term
from mmpt.training.objectives._next_token import BuiltNextToken
from mmpt.training.objectives.reweighted import Reweighted
from mmpt.vocabulary import Vocabulary

SHAPES = {
    "linupper": lambda h: (h + 1).clamp(max=1),
    "quadratic": lambda h: 1 - h.square(),
    "extremes": lambda h: h.abs(),
}


class BuiltReweighted(BuiltNextToken):
    def __init__(self, settings: Reweighted, vocabulary: Vocabulary, device: torch.device) -> None:
        super().__init__(settings, vocabulary, device)
        self.shape, self.strength = SHAPES[settings.strategy], settings.strength

    def terms(self, model: PreTrainedModel | PeftModel, batch: PackedBatch, decoded: Decoded, progress: float) -> dict[str, Term]:
        nll, weights = token_losses(model, batch, decoded, self.device, self.vocabulary)
        edges = batch.cu_seqlens.to(nll.device, torch.int64)
        totals, counts = (_by_document(one, edges) for one in (weights * nll, weights))
        factors = self.factors(totals, counts)
        places = torch.bucketize(torch.arange(len(nll), device=nll.device), edges[1:], right=True)
        return next_token_terms(model, batch, decoded, self.device, self.vocabulary, self.weight, factors[places])

    def factors(self, totals: Tensor, counts: Tensor) -> Tensor:
        """float32 [documents] of their summed losses and weights, float64; those without a target get 1 and count for nothing."""
        there = counts > 0
        mean = totals / counts.clamp(min=torch.finfo(counts.dtype).tiny)
        least = torch.where(there, mean, torch.inf).amin()
        most = torch.where(there, mean, -torch.inf).amax()
        bounds = _over_ranks(torch.stack([-least, most]), dist.ReduceOp.MAX)
        low, high = -bounds[0], bounds[1]
        place = 2 * (mean - low) / (high - low).clamp(min=1e-6) - 1
        found = torch.where(there, (self.strength * self.shape(place)).exp(), 0)
        sums = _over_ranks(torch.stack([found.sum(), there.sum(dtype=found.dtype)]), dist.ReduceOp.SUM)
        return torch.where(there, found * sums[1] / sums[0], 1).float()


def _by_document(values: Tensor, edges: Tensor) -> Tensor:
    """float64 sums [documents] of `values` [T]: differences of running sums, whose order never changes."""
    running = torch.cat([values.new_zeros(1, dtype=torch.float64), values.double().cumsum(0)])
    return running[edges[1:]] - running[edges[:-1]]


def _over_ranks(values: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
    if dist.is_initialized():
        dist.all_reduce(values, operation)
    return values
