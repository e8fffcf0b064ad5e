"""`dpo` at work."""

from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel

from mmpt.data.loading.packing import PackedBatch
from mmpt.model.forward import Decoded, head_tables
from mmpt.model.scoring import signed_loss, target_losses
from mmpt.tokenizers.terms import Term
from mmpt.training.objectives.dpo import Dpo


class BuiltDpo:
    """The loss is a function of sums over tokens, of which the kernel of the loss gives no gradient: it is taken by hand at the
    sums, so that a second pass over the head with its slopes as weights of the tokens has the whole gradient."""

    asks: dict[str, Any] = {}

    def __init__(self, settings: Dpo) -> None:
        self.settings = settings

    def prepare(self, batch: PackedBatch) -> tuple[PackedBatch, dict[str, Tensor]]:
        pairs = 0 if batch.pairs is None else len(batch.pairs.chosen_lengths)
        return batch, {"dpo": torch.tensor(pairs, dtype=torch.float64)}

    def terms(
        self, model: PreTrainedModel | PeftModel, batch: PackedBatch, decoded: Decoded, progress: float = 0.0
    ) -> dict[str, Term]:
        pairs, hidden = batch.pairs, decoded.hidden
        if pairs is None:
            nothing = hidden.sum() * 0.0 if decoded.zero is None else hidden.sum() * 0.0 + decoded.zero
            none = nothing.detach().double()
            return {"dpo": Term(nothing, none, self.settings.weight)} | dict.fromkeys(
                ("dpo_margin", "dpo_accuracy"), Term(none, none, 0.0)
            )
        kept = torch.cat([pairs.chosen, pairs.rejected])
        tables, targets = head_tables(model), batch.targets[0]
        with torch.no_grad():
            assert decoded.before is not None  # `compares`
            change = decoded.before - target_losses(hidden, tables, targets, kept)  # of ln p
        margin = _sums(change[pairs.chosen], pairs.chosen_lengths) - _sums(change[pairs.rejected], pairs.rejected_lengths)
        loss, slope = self._loss(margin)
        weights = torch.zeros_like(change, dtype=torch.float32)
        for places, lengths, sign in ((pairs.chosen, pairs.chosen_lengths, 1.0), (pairs.rejected, pairs.rejected_lengths, -1.0)):
            own = (-sign * slope).repeat_interleave(lengths, output_size=len(places))
            weights = weights.index_copy(0, places, own.float())
        surrogate = signed_loss(hidden, tables, targets, weights, pairs.chosen, pairs.rejected)
        total = surrogate - surrogate.detach() + loss.sum().float()
        count = margin.new_full((), float(len(margin)))
        return {
            "dpo": Term(total if decoded.zero is None else total + decoded.zero, count, self.settings.weight),
            "dpo_margin": Term(self.settings.beta * margin.sum(), count, 0.0),
            "dpo_accuracy": Term((margin > 0).sum(), count, 0.0),
        }

    def _loss(self, margin: Tensor) -> tuple[Tensor, Tensor]:
        """(the loss of each pair, its derivative by the margin)."""
        beta, smoothing = self.settings.beta, self.settings.label_smoothing
        logits = beta * margin
        loss = -(1 - smoothing) * logsigmoid(logits) - smoothing * logsigmoid(-logits)
        return loss, -beta * ((1 - smoothing) * torch.sigmoid(-logits) - smoothing * torch.sigmoid(logits))


def _sums(values: Tensor, lengths: Tensor) -> Tensor:
    """float64 [pairs]: of each stretch of `values`, in a fixed order."""
    return torch.segment_reduce(values.double(), "sum", lengths=lengths, unsafe=True)
