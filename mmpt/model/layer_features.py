"""Layers of a frozen encoder into layers of a frozen decoder, through one linear map (eP-ALM, Shukor et al. 2023,
arXiv:2303.11403).

Each picture or sound has one slot in the decoder's input. Before each chosen decoder layer the slot's hidden state is replaced by
the mapped state of one encoder layer, the deeper the later. What learns is the map and one start row, under 1 % of the whole.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mmpt.errors import ConfigError
from mmpt.model.connecting import place


class LayerFeatures(nn.Module):
    """[B, states, `feature_width`] of B pictures → [B, states, `width`], for a decoder `width` wide; `start` is a row [1, width]
    to stand in front of the document, the learned prompt of the paper."""

    def __init__(self, feature_width: int, width: int):
        super().__init__()
        self.map = nn.Linear(feature_width, width)
        self.start = nn.Parameter(0.02 * torch.randn(1, width))

    def forward(self, states: Tensor) -> Tensor:
        return self.map(states)


@contextmanager
def placed(model: PreTrainedModel, places: Sequence[int], slots: Tensor, rows: Tensor) -> Iterator[None]:
    """Inside, `model` finds `rows` [B, len(places), H] of B pictures in their `slots` int64 [B], the i-th row of each from
    layer `places[i]` on (counted from 0). Before `places[0]` a slot holds whatever its id's embedding is.

    Raises `ConfigError` where the model has no such layers, `ValueError` where slots and rows do not fit.
    """
    layers = getattr(model.base_model, "layers", ())
    wrong = [number for number in places if not 0 <= number < len(layers)]
    if wrong or not places or list(places) != sorted(set(places)):
        raise ConfigError(f"layer features: places {list(places)}, expected rising ones from 0 to {len(layers) - 1}")
    if rows.ndim != 3 or rows.shape[1] != len(places) or len(slots) != len(rows):
        raise ValueError(f"rows {tuple(rows.shape)} for {len(slots)} slots and {len(places)} layers")
    hooks = [
        layers[number].register_forward_pre_hook(_replacing(slots, rows[:, i]), with_kwargs=True)
        for i, number in enumerate(places)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _replacing(slots: Tensor, rows: Tensor):
    def before(layer: nn.Module, inputs: tuple, options: dict) -> tuple[tuple, dict]:
        if inputs:
            return (place(inputs[0], slots, rows), *inputs[1:]), options
        return inputs, {**options, "hidden_states": place(options["hidden_states"], slots, rows)}

    return before
