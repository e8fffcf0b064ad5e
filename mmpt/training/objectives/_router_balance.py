"""`router_balance` at work."""

from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from mmpt.data.loading.packing import PackedBatch
from mmpt.model.forward import Decoded, balance_term
from mmpt.tokenizers.terms import Term


class BuiltRouterBalance:
    """Asks the decoder for the logits of its routers."""

    asks: dict[str, Any] = {"output_router_logits": True}

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def prepare(self, batch: PackedBatch) -> tuple[PackedBatch, dict[str, Tensor]]:
        return batch, {"router_balance": torch.tensor(batch.input_ids.numel(), dtype=torch.float64)}

    def terms(self, model: PreTrainedModel | PeftModel, batch: PackedBatch, decoded: Decoded, progress: float) -> dict[str, Term]:
        return {"router_balance": balance_term(model, batch, decoded, self.weight)}
