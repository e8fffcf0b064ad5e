"""`distil` at work."""

import torch
from torch import Tensor

from mmpt.data.loading.packing import PackedBatch
from mmpt.model.divergence import first_rows, weighted_divergence
from mmpt.model.forward import Decoded, head_tables
from mmpt.training.objectives._teacher import BuiltTaught, Model, Teacher
from mmpt.training.objectives.distil import Distil
from mmpt.vocabulary import Vocabulary


class BuiltDistil(BuiltTaught):
    def __init__(self, settings: Distil, vocabulary: Vocabulary, device: torch.device) -> None:
        super().__init__(settings, vocabulary, device)
        self.temperature = settings.temperature

    def learn(
        self, teacher: Teacher, model: Model, batch: PackedBatch, decoded: Decoded, kept: Tensor, weights: Tensor
    ) -> Tensor:
        states, known = decoded.hidden[kept], teacher.decode(batch).hidden[kept]
        if torch.is_autocast_enabled(states.device.type):
            states = states.to(torch.get_autocast_dtype(states.device.type))
        tables = (first_rows(tables, teacher.size) for tables in (head_tables(model), teacher.tables()))
        own, other = tables
        return weighted_divergence(states, own, known, other, weights, self.temperature)
