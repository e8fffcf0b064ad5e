"""Layers of a decoder that hold their matrix as something else while it learns (see `mmpt.model.linears`), in checkpoints.

A checkpoint's backbone/ has plain matrices, which every program reads; what training goes on from is a file beside it.
"""

import json
from abc import abstractmethod
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from mmpt.config import parse_config
from mmpt.errors import CheckpointError
from mmpt.model.config import BackboneConfig
from mmpt.model.linears import LinearLayer

FILE = "linear.safetensors"


class FactoredLayer(nn.Module):
    """[..., I] → [..., O]. `settings`: the method that made it; `parts`: names of the tensors that stand for its matrix."""

    settings: LinearLayer
    parts: tuple[str, ...]

    @abstractmethod
    def weight_of(self, parts: dict[str, Tensor]) -> Tensor:
        """The matrix [O, I] of such tensors, float32 where they are of a floating type."""


def split_weights(model: PreTrainedModel, tensors: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """`tensors` of a model by name, with a plain matrix in place of the parts of each such layer, which are written to `folder`.
    `tensors` itself where the model has no such layers."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, FactoredLayer)}
    if not layers:
        return tensors
    plain, factors = dict(tensors), {}
    for name, layer in layers.items():
        parts = {part: plain.pop(f"{name}.{part}") for part in layer.parts}
        factors |= {f"{name}.{part}": value.contiguous() for part, value in parts.items()}
        dtype = next(value.dtype for value in parts.values() if value.is_floating_point())
        whole = {part: value.float() if value.is_floating_point() else value for part, value in parts.items()}
        plain[f"{name}.weight"] = layer.weight_of(whole).to(dtype)
    settings = next(iter(layers.values())).settings
    save_file(factors, folder / FILE, {"linear": json.dumps(settings.model_dump(mode="json"))})
    return plain


def has_factors(model: nn.Module) -> bool:
    """Whether any layer of `model` holds its matrix as something else."""
    return any(isinstance(module, FactoredLayer) for module in model.modules())


def saved_layers(checkpoint: Path) -> tuple[LinearLayer, dict[str, Tensor]] | None:
    """(The method, the tensors by name) of the layers of a checkpoint; None where they are plain. Raises `CheckpointError` where
    they cannot be read."""
    path = checkpoint / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            settings = json.loads((file.metadata() or {})["linear"])
    except (SafetensorError, OSError, KeyError, ValueError) as problem:
        raise CheckpointError(f"{path}: it cannot be read ({problem})") from None
    return parse_config({"path": "backbone", "linear": settings}, BackboneConfig, str(path)).linear, tensors


@torch.no_grad()
def restore_layers(model: PreTrainedModel, checkpoint: Path) -> None:
    """Give the plain model of a checkpoint the layers of its training. Raises `CheckpointError` where they do not fit it."""
    if (found := saved_layers(checkpoint)) is not None:
        settings, tensors = found
        try:
            settings.restore(model, tensors)
        except (KeyError, ValueError) as problem:
            raise CheckpointError(f"{checkpoint / FILE}: it does not fit backbone/ ({problem})") from None


def plain_layers(model: PreTrainedModel) -> list[tuple[str, nn.Linear]]:
    """The linear layers of the decoder's layers, by name in `model`; not the head."""
    inside = {id(module) for module in cast(nn.ModuleList, model.base_model.layers).modules()}
    return [(name, one) for name, one in model.named_modules() if type(one) is nn.Linear and id(one) in inside]
