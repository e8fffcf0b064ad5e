"""The parts of a model that a recipe can train at rates of their own, or not at all."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, get_args

from mmpt.errors import ConfigError

if TYPE_CHECKING:  # the names of the parts are known before torch is loaded
    from torch import nn

    from mmpt.training.optimizers import Optimizer

Part = Literal["embeddings", "new_rows", "adapter", "connectors", "encoder", "objectives", "layers"]
"""`embeddings`: the input table and the head; `new_rows`: their tables of new rows, where they are split off; `adapter`: those
of peft; `connectors`: from the features of media to rows of the decoder; `encoder`: what makes those
features, at rest where it is not named; `objectives`: what an objective learns for itself; `layers`: everything else."""

PARTS: tuple[Part, ...] = get_args(Part)
HEADS = ("lm_head", "embed_out")
LAYER = re.compile(r"\.(?:layers|h)\.(\d+)\.")
"""As transformers' decoders name their layers; GPT-2's kind calls them h."""


def part_of(name: str) -> Part:
    """The part of a parameter, by its name in the model."""
    if name.startswith("connectors."):
        return "connectors"
    if name.startswith("encoders."):
        return "encoder"
    if name.startswith("objectives."):
        return "objectives"
    if name.endswith(".new"):
        return "new_rows"
    if "default" in name.split("."):  # the name that peft gives to the one adapter of a model, inside each of its tables
        return "adapter"
    # The names of transformers' decoders; GPT-2's kind calls its table wte.
    if any(part in ("embed_tokens", "wte", "embed_in", *HEADS) for part in name.split(".")):
        return "embeddings"
    return "layers"


def layer_of(name: str) -> int | None:
    """The number of the decoder's layer that a parameter, or an adapter of it, is in; None outside of them."""
    found = LAYER.search(name)
    return int(found[1]) if found and part_of(name) in ("layers", "adapter") else None


def factors(names: Iterable[str], optimizer: "Optimizer") -> dict[str, float]:
    """The factor on the learning rate of each parameter of a model, 0 where it is frozen: of its part, of its layer.

    Raises `ConfigError` where more layers are to be frozen than there are.
    """
    layers = {name: layer_of(name) for name in names}
    depth = 1 + max((layer for layer in layers.values() if layer is not None), default=-1)
    if optimizer.frozen_layers > depth:
        raise ConfigError(f"optimizer.frozen_layers is {optimizer.frozen_layers}, the decoder has {depth} layers")
    found = {}
    for name, layer in layers.items():
        part = part_of(name)
        above = 0 if layer is None else depth - 1 - layer
        if part == "embeddings" and not any(head in name.split(".") for head in HEADS):
            above = depth
        at_rest = layer is not None and layer < optimizer.frozen_layers
        found[name] = 0.0 if at_rest else optimizer.parts.get(part, 1.0) * optimizer.layer_decay**above
    return found


def freeze(named: Iterable[tuple[str, "nn.Parameter"]], optimizer: "Optimizer") -> None:
    """Ask for no gradient where a parameter's factor is 0. Raises `ConfigError` where nothing learns, a part is not there, or
    fewer layers are than `frozen_layers` says."""
    parameters = dict(named)
    learn = {part: [name for name, one in parameters.items() if one.requires_grad and part_of(name) == part] for part in PARTS}
    absent = [part for part in optimizer.parts if not learn[part]]
    if absent:
        there = ", ".join(part for part, names in learn.items() if names)
        raise ConfigError(f"optimizer.parts.{absent[0]}: this run trains no parameters of that part (there are: {there})")
    for name, factor in factors(parameters, optimizer).items():
        if factor == 0:
            parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ConfigError("optimizer.parts: nothing learns")
