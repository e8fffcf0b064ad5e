"""The parts of a model that a recipe can train at rates of their own, or not at all."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, get_args

from mmpt.errors import ConfigError

if TYPE_CHECKING:  # the names of the parts are known before torch is loaded
    from torch import nn

Part = Literal["embeddings", "new_rows", "adapter", "connectors", "encoder", "layers"]
"""`embeddings`: the input table and the head; `new_rows`: their tables of new rows, where they are split off; `adapter`: those
of peft; `connectors`: from the features of media to rows of the decoder; `encoder`: what makes those
features, at rest where it is not named; `layers`: everything else."""


def part_of(name: str) -> Part:
    """The part of a parameter, by its name in the model."""
    if name.startswith("connectors."):
        return "connectors"
    if name.startswith("encoders."):
        return "encoder"
    if name.endswith(".new"):
        return "new_rows"
    if "default" in name.split("."):  # the name that peft gives to the one adapter of a model, inside each of its tables
        return "adapter"
    # The names of transformers' decoders; GPT-2's kind calls its table wte.
    if any(part in ("embed_tokens", "lm_head", "wte", "embed_in", "embed_out") for part in name.split(".")):
        return "embeddings"
    return "layers"


def freeze(named: Iterable[tuple[str, "nn.Parameter"]], factors: dict[Part, float]) -> None:
    """Ask for no gradient where a part's factor is 0. Raises `ConfigError` where nothing learns, or a part is not there."""
    found: dict[str, list[nn.Parameter]] = {part: [] for part in get_args(Part)}
    for name, parameter in named:
        if parameter.requires_grad:
            found[part_of(name)].append(parameter)
    absent = [part for part in factors if not found[part]]
    if absent:
        there = ", ".join(part for part, parameters in found.items() if parameters)
        raise ConfigError(f"optimizer.parts.{absent[0]}: this run trains no parameters of that part (there are: {there})")
    for part, factor in factors.items():
        if factor == 0:
            for parameter in found[part]:
                parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameters in found.values() for parameter in parameters):
        raise ConfigError("optimizer.parts: nothing learns")
