"""`future_tokens` at work."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mmpt.data.loading.packing import PackedBatch
from mmpt.errors import ConfigError
from mmpt.kernels.cross_entropy import weighted_linear_cross_entropy
from mmpt.layers.attention import blocks
from mmpt.layers.positions import table
from mmpt.model.forward import Decoded, Model, causal_lm, for_head, head_tables, target_weights
from mmpt.tokenizers.terms import Term
from mmpt.training.objectives.future_tokens import FutureTokens
from mmpt.vocabulary import MODALITIES, Vocabulary


class Ahead(nn.Module):
    """States [n, H] and the embeddings [n, tokens − 1, H] of what follows each → states [n, tokens, H] for the head: the i-th
    sees the first i − 1 of what follows."""

    mask: Tensor

    def __init__(self, settings: FutureTokens, width: int):
        super().__init__()
        self.vectors = settings.vectors
        self.expand = nn.Linear(width, settings.vectors * width)
        self.start, self.positions = table(1, width), table(settings.tokens, width)
        self.blocks = blocks(settings.depth, width, settings.heads, width)
        self.norm = nn.LayerNorm(width)
        self.register_buffer("mask", torch.ones(settings.tokens, settings.tokens, dtype=torch.bool).tril(), persistent=False)

    def forward(self, states: Tensor, following: Tensor) -> Tensor:
        dtype = self.start.dtype
        memory = self.expand(states.to(dtype)).unflatten(1, (self.vectors, -1))
        x = torch.cat([self.start.expand(len(states), 1, -1), following.to(dtype)], dim=1) + self.positions
        for block in self.blocks:
            x = block(x, self.mask, memory)
        return self.norm(x)


class BuiltFutureTokens:
    asks: dict[str, Any] = {}

    def __init__(self, settings: FutureTokens, model: Model, vocabulary: Vocabulary, device: torch.device) -> None:
        width = causal_lm(model).config.get_text_config().hidden_size
        if width % settings.heads:
            raise ConfigError(f"objectives: future_tokens: heads: {settings.heads}, expected a divisor of the width {width}")
        self.settings, self.vocabulary = settings, vocabulary
        self.head = Ahead(settings, width)
        self.host = torch.tensor([getattr(settings.weights, name) for name in MODALITIES])
        self.device = self.host.to(device)

    def prepare(self, batch: PackedBatch) -> tuple[PackedBatch, dict[str, Tensor]]:
        places = torch.nonzero(batch.position_ids[0] % self.settings.every == 0).squeeze(1)
        weights = self._weights(batch, places, self.host)[1]
        some = (weights != 0).any(dim=1)
        learned = torch.nonzero(weights[some].flatten()).squeeze(1)
        marks = {"future_tokens": places[some], "future_targets": learned}
        return replace(batch, marks={**batch.marks, **marks}), {"future_tokens": weights.sum(dtype=torch.float64)}

    def terms(self, model: Model, batch: PackedBatch, decoded: Decoded, progress: float) -> dict[str, Term]:
        kept, learned = batch.marks["future_tokens"], batch.marks["future_targets"]
        # Under ZeRO 3 every rank runs the same modules: where nothing is kept, on a token that weighs nothing.
        places = kept if len(kept) else kept.new_zeros(1)
        ahead, weights = self._weights(batch, places, self.device)
        weights = weights if len(kept) else weights * 0
        following = causal_lm(model).get_input_embeddings()(batch.targets[0][ahead[:, :-1]].clamp(min=0))
        states = self.head(decoded.hidden[places], following).flatten(0, 1)
        targets = batch.targets[0][ahead].flatten().clamp(min=0)
        tables, flat = head_tables(model), weights.flatten()
        total = weighted_linear_cross_entropy(for_head(states), tables, targets, flat, kept=learned).loss + 0.0 * states.sum()
        return {"future_tokens": Term(total, weights.sum(), self.settings.weight)}

    def _weights(self, batch: PackedBatch, places: Tensor, modality_weights: Tensor) -> tuple[Tensor, Tensor]:
        """(Places [n, tokens] at which the targets ahead of `places` [n] stand, their weights, 0 beyond the document's end)."""
        positions = batch.position_ids[0]
        steps = torch.arange(self.settings.tokens, device=places.device)
        ahead = (places[:, None] + steps).clamp(max=len(positions) - 1)
        same = positions[ahead] == positions[places][:, None] + steps
        own = target_weights(batch, modality_weights, self.vocabulary)[0]
        return ahead, own[ahead] * same * self.settings.decay**steps
