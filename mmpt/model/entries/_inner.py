import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from mmpt.model.entering import KEYWORD, brought, decoder_layers
from mmpt.model.hollow import fill

NOT_FOR_COPIES = ("hidden_states", "past_key_values", KEYWORD)


class InnerAdaptors(nn.Module):
    """Copies of the layers `numbers` of a decoder (counted from 0), which stand behind them, each with a gate that starts at 0.

    The decoder calls them while it runs (`attach`); it does not hold them, so its own weights and their names stay as they are.
    `number`: of these adaptors among those of the decoder. Raises `ConfigError` where it has no such layers.
    """

    def __init__(self, model: PreTrainedModel, numbers: Sequence[int], number: int = 0):
        super().__init__()
        self.numbers = tuple(numbers)
        copied = decoder_layers(model, numbers)
        for layer in copied:
            fill(layer)  # a copy of a layer without values would have none
        self.layers = nn.ModuleList(map(copy.deepcopy, copied)).requires_grad_(True)
        self.gates = nn.ParameterList(nn.Parameter(torch.zeros(1)) for _ in numbers)
        # Keys and values are kept by number of a layer: a copy must not write over those of the layer that it was made of.
        depth = len(model.base_model.layers)  # pyright: ignore[reportArgumentType]
        for own, layer in zip(numbers, self.layers, strict=True):
            module: Any
            for module in layer.modules():
                if hasattr(module, "layer_idx"):
                    module.layer_idx = own + depth * (1 + number)

    def attach(self, model: PreTrainedModel, kind: str) -> None:
        """Stand behind the layers of `model`, for documents with media of `kind`."""
        for place, layer in enumerate(decoder_layers(model, self.numbers)):
            layer.register_forward_hook(self._hook(place, kind), with_kwargs=True)

    def _hook(self, place: int, kind: str):
        def after(layer: nn.Module, inputs: tuple, options: dict, output):
            media = brought(options)
            if media is None or kind not in media.touched:
                return output
            hidden = output[0] if isinstance(output, tuple) else output
            # The copy keeps keys and values of its own: it attends to what it is given, not to what the layer before it saw.
            own = {name: value for name, value in options.items() if name not in NOT_FOR_COPIES}
            changed = self.layers[place](hidden, **own)
            changed = changed[0] if isinstance(changed, tuple) else changed
            # Where documents have no such media this adds 0 · …, so that under ZeRO 3 every rank runs the same modules.
            share = self.gates[place].to(hidden.dtype) * media.touched[kind].to(hidden.dtype)[None, :, None]
            mixed = hidden + share * (changed - hidden)
            return (mixed, *output[1:]) if isinstance(output, tuple) else mixed

        return after
