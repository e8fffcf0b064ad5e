"""What media bring into one pass of the decoder, and how its layers come to see it.

It travels as the keyword `media` of the forward call down to every decoder layer, where hooks of the entries look for it. A
keyword and not a state of the model: with activation checkpointing a layer runs again in the backward pass, when another pack may
be on its way, and is given the same keywords again.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mmpt.errors import ConfigError

KEYWORD = "media"


class LayerRows(NamedTuple):
    """Before decoder layer `layer` the hidden states at `slots` int64 [n] are replaced by `rows` [n, H]."""

    layer: int
    slots: Tensor
    rows: Tensor


class Entering(NamedTuple):
    """`rows` [n, H] at the positions `slots` int64 [n] of the decoder's input, those of `layers`, and for each kind of media that
    has layers inside the decoder the tokens (bool [T]) of documents that hold media of it (`touched`)."""

    slots: Tensor
    rows: Tensor
    layers: tuple[LayerRows, ...] = ()
    touched: Mapping[str, Tensor] = {}  # noqa: RUF012 - never changed

    @property
    def inside(self) -> bool:
        """Whether any layer has to know of it."""
        return bool(self.layers or self.touched)


def together(parts: Iterable[Entering], touched: Mapping[str, Tensor]) -> Entering:
    """What all kinds of media bring."""
    parts = list(parts)
    slots, rows = (torch.cat([getattr(part, name) for part in parts]) for name in ("slots", "rows"))
    return Entering(slots, rows, tuple(one for part in parts for one in part.layers), touched)


def decoder_layers(model: PreTrainedModel, wanted: Iterable[int]) -> list[nn.Module]:
    """The decoder layers of these numbers. Raises `ConfigError` where there are none such."""
    layers = getattr(model.base_model, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ConfigError(f"enters: {type(model).__name__} has no list of layers")
    wanted = list(wanted)
    if any(number >= len(layers) for number in wanted):
        raise ConfigError(f"enters: decoder: {wanted}, expected layers from 0 to {len(layers) - 1}")
    return [layers[number] for number in wanted]


def brought(options: Mapping[str, object]) -> Entering | None:
    """What the keywords of a layer's call hold of media."""
    return cast(Entering | None, options.get(KEYWORD))
