"""The highest layers, drawn anew."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pydantic

from mmpt.errors import ConfigError
from mmpt.model.changes import Change

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel


class Restart(Change):
    """The highest layers start from random weights, which on little data is more stable than what they were specialised for
    (Zhang et al. 2021, arXiv:2006.05987; Tinn et al. 2021, arXiv:2112.07869)."""

    layers: int = pydantic.Field(ge=1)
    """How many, from the highest down."""

    def settings(self, config: "PreTrainedConfig") -> "PreTrainedConfig":
        if self.layers > config.num_hidden_layers:
            raise ConfigError(f"backbone.change: restart: layers is {self.layers}, there are {config.num_hidden_layers}")
        return config

    def weights(
        self,
        model: "PreTrainedModel",
        settings: "PreTrainedConfig",
        generator: "torch.Generator",
        sequences: Iterable[Sequence[int]],
    ) -> "dict[str, Tensor]":
        """Matrices from a normal of the model's own deviation, norms of 1, biases of 0."""
        import torch

        found, first = dict(model.state_dict()), settings.num_hidden_layers - self.layers
        norms = {name for name, module in model.named_modules() if "norm" in type(module).__name__.lower()}
        for name, value in found.items():
            place = name.split(".")
            layer = next((int(place[n + 1]) for n, word in enumerate(place[:-1]) if word == "layers"), -1)
            if layer < first:
                continue
            if name.rpartition(".")[0] in norms:
                made = torch.ones_like(value) if name.endswith("weight") else torch.zeros_like(value)
            elif name.endswith("bias"):
                made = torch.zeros_like(value)
            else:
                deviation = getattr(settings, "initializer_range", 0.02)
                made = torch.empty_like(value, device="cpu").normal_(0.0, deviation, generator=generator).to(value.device)
            found[name] = made
        return found
