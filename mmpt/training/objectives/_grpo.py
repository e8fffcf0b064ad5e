"""`grpo` at work."""

from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from mmpt.data.loading.packing import PackedBatch, Rated
from mmpt.model.forward import Decoded, head_tables
from mmpt.model.scoring import signed_loss, target_losses
from mmpt.tokenizers.terms import Term
from mmpt.training.objectives.grpo import Grpo

TOLD = ("grpo_ratio", "grpo_clipped")


class BuiltGrpo:
    """As `dpo`, the gradient is taken by hand at each token's ln p, and given to the loss's kernel as the token's weight."""

    asks: dict[str, Any] = {}

    def __init__(self, settings: Grpo) -> None:
        self.settings = settings

    def prepare(self, batch: PackedBatch) -> tuple[PackedBatch, dict[str, Tensor]]:
        counted = (
            () if batch.rated is None else batch.rated.lengths if self.settings.mean_over == "answers" else batch.rated.places
        )
        return batch, {"grpo": torch.tensor(len(counted), dtype=torch.float64)}

    def terms(
        self, model: PreTrainedModel | PeftModel, batch: PackedBatch, decoded: Decoded, progress: float = 0.0
    ) -> dict[str, Term]:
        rated, hidden = batch.rated, decoded.hidden
        if rated is None:
            nothing = hidden.sum() * 0.0 if decoded.zero is None else hidden.sum() * 0.0 + decoded.zero
            none = nothing.detach().double()
            return {"grpo": Term(nothing, none, self.settings.weight)} | dict.fromkeys(TOLD, Term(none, none, 0.0))
        tables, targets = head_tables(model), batch.targets[0]
        with torch.no_grad():
            assert decoded.before is not None  # `compares`
            ratios = (decoded.before - target_losses(hidden, tables, targets, rated.places))[rated.places].double().exp()
        value, slope, clipped = self._loss(ratios, rated)
        weights = torch.zeros(len(hidden), device=hidden.device).index_copy(0, rated.places, slope.float())
        surrogate = signed_loss(hidden, tables, targets, weights, rated.more, rated.less)
        total = surrogate - surrogate.detach() + value.float()
        tokens = ratios.new_full((), float(len(ratios)))
        count = ratios.new_full((), float(len(rated.lengths))) if self.settings.mean_over == "answers" else tokens
        return {
            "grpo": Term(total if decoded.zero is None else total + decoded.zero, count, self.settings.weight),
            "grpo_ratio": Term(ratios.sum(), tokens, 0.0),
            "grpo_clipped": Term(clipped.sum(), tokens, 0.0),
        }

    def _loss(self, ratios: Tensor, rated: Rated) -> tuple[Tensor, Tensor, Tensor]:
        """(the loss of all tokens, its derivative by each −ln p, which are clipped)."""
        share = torch.ones_like(rated.advantages, dtype=torch.float64)
        if self.settings.mean_over == "answers":
            share = share / rated.lengths.clamp(min=1)
        advantages, share = (
            one.double().repeat_interleave(rated.lengths, output_size=len(ratios)) for one in (rated.advantages, share)
        )
        held = ratios.clamp(1 - self.settings.clip, 1 + self.settings.clip_above)
        clipped = held * advantages < ratios * advantages
        value = -(share * torch.minimum(ratios * advantages, held * advantages)).sum()
        return value, torch.where(clipped, 0.0, share * advantages * ratios), clipped
