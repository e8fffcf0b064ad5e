"""`hidden_match` at work."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mmpt.data.loading.packing import PackedBatch
from mmpt.errors import ConfigError
from mmpt.model.forward import Decoded, causal_lm
from mmpt.training.objectives._teacher import BuiltTaught, Model, Teacher
from mmpt.training.objectives.hidden_match import HiddenMatch
from mmpt.vocabulary import Vocabulary

LAYERS: dict[str, Any] = {"output_hidden_states": True}


class BuiltHiddenMatch(BuiltTaught):
    asks: dict[str, Any] = LAYERS

    def __init__(self, settings: HiddenMatch, model: Model, vocabulary: Vocabulary, device: torch.device) -> None:
        super().__init__(settings, vocabulary, device)
        assert self.teacher is not None
        self.distance = settings.distance
        self.layer = _place("layer", settings.layer, model)
        self.known = _place("teacher_layer", settings.teacher_layer, self.teacher.model)

    def learn(
        self, teacher: Teacher, model: Model, batch: PackedBatch, decoded: Decoded, kept: Tensor, weights: Tensor
    ) -> Tensor:
        states = decoded.layers[self.layer][kept].float()
        known = teacher.decode(batch, **LAYERS).layers[self.known][kept].float()
        if known.shape[1] != states.shape[1]:
            known = functional.interpolate(known.unsqueeze(1), states.shape[1], mode="linear", align_corners=True).squeeze(1)
        if self.distance == "cosine":
            apart = 1 - functional.cosine_similarity(states, known, dim=1)
        else:
            apart = (states - known).square().mean(dim=1)
        return torch.dot(weights, apart)


def _place(name: str, layer: int | None, model: Model) -> int:
    """Where a layer's states are among all: the first are those before the first layer."""
    count = causal_lm(model).config.get_text_config().num_hidden_layers
    if layer is not None and layer > count:
        raise ConfigError(f"objectives: hidden_match: {name} is {layer}, expected 1 to {count}")
    return count if layer is None else layer
