"""The loss of a model on token shards that it did not learn from."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch
from transformers import PreTrainedModel

from mmpt.data.loading.loader import Loader
from mmpt.data.shards.read import TokenShards
from mmpt.model.forward import weighted_loss
from mmpt.vocabulary import MODALITIES, Vocabulary


@torch.inference_mode()
def held_out_loss(
    model: PreTrainedModel, vocabulary: Vocabulary, folders: Sequence[Path], pack_tokens: int = 2048, packs: int = 200
) -> float:
    """Σ weight·nll / Σ weight in nats over the first `packs` packs of one pass over `folders`. Raises `VocabularyError` where
    their ids mean other things than the model's."""
    sources = [TokenShards(folder, vocabulary) for folder in folders]
    weights = torch.ones(len(MODALITIES), device=model.device)
    total = torch.zeros(2, dtype=torch.float64)
    loader = Loader(sources, pack_tokens=pack_tokens, packs_per_step=1, seed=0, epochs=1, workers=0)
    for (batch,) in islice(loader, packs):
        term = weighted_loss(model, batch.to(model.device), weights, vocabulary)["next_token"]
        total += torch.stack([term.total, term.count]).double().cpu()
    return float(total[0] / total[1])
