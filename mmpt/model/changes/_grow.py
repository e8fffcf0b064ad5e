"""Weights of a larger decoder."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mmpt.model.changes._shapes import INTO_NEURONS, NEURONS_OUT, reads_states, writes_states

LAYER = re.compile(r"^(model\.layers\.)(\d+)(\..*)$")


def wider(model: PreTrainedModel, hidden: int, intermediate: int) -> dict[str, Tensor]:
    """The weights with hidden states and neurons repeated up to these sizes, so that the same is computed."""
    copies = hidden // model.config.hidden_size
    neurons = torch.arange(intermediate) % model.config.intermediate_size
    shares = torch.bincount(neurons)[neurons]
    found = {}
    for name, value in model.state_dict().items():
        if name.endswith(INTO_NEURONS):
            value = value[neurons]
        elif name.endswith(NEURONS_OUT):
            value = value[:, neurons] / shares
        if copies > 1 and reads_states(name):  # norms and the embedding write, or keep, a number for each
            value = value.repeat(1, copies) / copies
        elif copies > 1 and writes_states(name):
            value = value.repeat(copies) if value.ndim == 1 else _repeated(name, value, copies)
        found[name] = value
    return found


def _repeated(name: str, value: Tensor, copies: int) -> Tensor:
    return value.repeat(1, copies) if "embed" in name else value.repeat(copies, 1)


def deeper(weights: dict[str, Tensor], layers: Sequence[tuple[int, bool]]) -> dict[str, Tensor]:
    """The weights with these `layers` (which of those there are, whether it adds nothing) in place of all."""
    found = {name: value for name, value in weights.items() if not LAYER.match(name)}
    for number, (source, silent) in enumerate(layers):
        for name, value in weights.items():
            match = LAYER.match(name)
            if match and int(match[2]) == source:
                last = silent and match[3].endswith(("o_proj.weight", "o_proj.bias", *NEURONS_OUT, "down_proj.bias"))
                found[f"{match[1]}{number}{match[3]}"] = torch.zeros_like(value) if last else value
    return found
