"""`next_token` at work."""

from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from mmpt.data.loading.packing import PackedBatch
from mmpt.model.forward import Decoded, next_token_terms, supervise
from mmpt.tokenizers.terms import Term
from mmpt.training.objectives.next_token import NextToken
from mmpt.vocabulary import MODALITIES, Vocabulary


class BuiltNextToken:
    """The weights of the modalities twice: on the host, where packs are prepared, and on the device."""

    asks: dict[str, Any] = {}

    def __init__(self, settings: NextToken, vocabulary: Vocabulary, device: torch.device) -> None:
        self.weight, self.vocabulary = settings.weight, vocabulary
        self.host = torch.tensor([getattr(settings.weights, name) for name in MODALITIES])
        self.device = self.host.to(device)

    def prepare(self, batch: PackedBatch) -> tuple[PackedBatch, dict[str, Tensor]]:
        batch, total = supervise(batch, self.host, self.vocabulary)
        return batch, {"next_token": total}

    def terms(self, model: PreTrainedModel | PeftModel, batch: PackedBatch, decoded: Decoded, progress: float) -> dict[str, Term]:
        return next_token_terms(model, batch, decoded, self.device, self.vocabulary, self.weight)
