"""What media bring into one pass of the decoder, and how its layers come to see it.

It travels as the keyword `media` of the forward call down to every decoder layer, where hooks of the entries look for it. A
keyword and not a state of the model: with activation checkpointing a layer runs again in the backward pass, when another pack may
be on its way, and is given the same keywords again.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mmpt.errors import ConfigError

KEYWORD = "media"
OWN = "own"
"""The kind of its media by which an entry, which knows of one kind alone, calls what it brings."""


class LayerRows(NamedTuple):
    """Before decoder layer `layer` the hidden states at `slots` int64 [n] are replaced by `rows` [n, H]."""

    layer: int
    slots: Tensor
    rows: Tensor


@dataclass(eq=False)
class Memory:
    """Views that layers inside the decoder attend to: `rows` [views, M, H]. `made`: where there is no gradient, what a layer has
    made of them, by its number, so that writing on does not make it again."""

    rows: Tensor
    made: dict[int, Tensor] = field(default_factory=dict)

    def of(self, layer: int, make: Callable[[Tensor], Tensor]) -> Tensor:
        """`make` of the rows, [views, M, …], once where there is no gradient."""
        if torch.is_grad_enabled():
            return make(self.rows)
        if layer not in self.made:
            self.made[layer] = make(self.rows)
        return self.made[layer]

    def part(self, start: int, end: int) -> "Memory":
        """The views from `start` to `end`."""
        return Memory(self.rows[start:end], {layer: one[start:end] for layer, one in self.made.items()})

    def with_more(self, other: "Memory") -> "Memory":
        """The views of both."""
        made = {layer: torch.cat([one, other.made[layer]]) for layer, one in self.made.items() if layer in other.made}
        return Memory(torch.cat([self.rows, other.rows]), made)


class Remembered(NamedTuple):
    """Each view of `memory` is seen by the tokens of its document from `places` int64 [views] on."""

    memory: Memory
    places: Tensor


class Entering(NamedTuple):
    """`rows` [n, H] at the positions `slots` int64 [n] of the decoder's input, those of `layers`, and for each kind of media that
    has layers inside the decoder the tokens (bool [T]) of documents that hold media of it (`touched`), and what such layers
    attend to (`memories`). `documents` int64 [T]: the document of each token, where any layer asks."""

    slots: Tensor
    rows: Tensor
    layers: tuple[LayerRows, ...] = ()
    touched: Mapping[str, Tensor] = {}  # noqa: RUF012 - never changed
    memories: Mapping[str, tuple[Remembered, ...]] = {}  # noqa: RUF012 - never changed
    documents: Tensor | None = None

    @property
    def inside(self) -> bool:
        """Whether any layer has to know of it."""
        return bool(self.layers or self.touched)


def together(parts: Mapping[str, Entering], touched: Mapping[str, Tensor], documents: Tensor | None) -> Entering:
    """What all kinds of media bring, by kind."""
    slots, rows = (torch.cat([getattr(part, name) for part in parts.values()]) for name in ("slots", "rows"))
    layers = tuple(one for part in parts.values() for one in part.layers)
    memories = {kind: part.memories[OWN] for kind, part in parts.items() if OWN in part.memories}
    return Entering(slots, rows, layers, touched, memories, documents)


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
