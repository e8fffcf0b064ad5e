"""What the vision language models of transformers make of pictures, in the terms of `features.image`."""

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration, LlavaForConditionalGeneration, PreTrainedModel

from mmpt.errors import ConfigError


class VisionParts(NamedTuple):
    """`settings` of `features.image`, whose tower gets the weights of `tower` and whose connector those of `connector`. `marks`:
    the tokens around a picture, where there are any; `picture`: the id that stands for it in a prompt."""

    tower: PreTrainedModel
    settings: dict[str, Any]
    connector: dict[str, Tensor]
    marks: tuple[str, str] | None
    picture: int


def vision_parts(model: PreTrainedModel, processor: dict[str, Any]) -> VisionParts:
    """Those of `model`; `processor`: what is set of its pictures. Raises `ConfigError` where mmpt has no place for them."""
    if isinstance(model, LlavaForConditionalGeneration):
        return _llava(model)
    if isinstance(model, InternVLForConditionalGeneration):
        return _internvl(model, processor)
    raise ConfigError(f"import: {type(model).__name__}, expected a Llava or an InternVL of transformers")


def _llava(model: LlavaForConditionalGeneration) -> VisionParts:
    config, projector = model.config, cast(nn.Module, model.model.multi_modal_projector)
    _require(config, projector_hidden_act="gelu")
    layer = _layer(config.vision_feature_layer)
    state = projector.state_dict()
    own = {f"{place}.{kind}": state.get(f"linear_{n}.{kind}") for n, place in ((1, 0), (2, 2)) for kind in ("weight", "bias")}
    for name, value in own.items():
        if value is None:  # projectors may go without
            own[name] = torch.zeros_like(cast(Tensor, own[name.replace("bias", "weight")])[:, 0])
    tower = _tower(model, layer)
    connector = cast(dict[str, Tensor], own)
    return VisionParts(cast(PreTrainedModel, model.model.vision_tower), tower, connector, None, config.image_token_id)


def _internvl(model: InternVLForConditionalGeneration, processor: dict[str, Any]) -> VisionParts:
    config, state = model.config, cast(nn.Module, model.model.multi_modal_projector).state_dict()
    _require(config, projector_hidden_act="gelu")
    factor = round(1 / config.downsample_ratio)
    width = len(state["layer_norm.weight"]) // factor**2
    # There the values of a joined feature come patch by patch, in `pixel_unshuffle` value by value.
    order = torch.arange(width * factor**2).view(factor**2, width).T.flatten()
    connector = {
        "norm.weight": state["layer_norm.weight"][order],
        "norm.bias": state["layer_norm.bias"][order],
        "mlp.0.weight": state["linear_1.weight"][:, order],
        "mlp.0.bias": state["linear_1.bias"],
        "mlp.2.weight": state["linear_2.weight"],
        "mlp.2.bias": state["linear_2.bias"],
    }
    layer = _layer(config.vision_feature_layer)
    settings = _tower(model, None if layer == -1 else layer)
    settings["connector"] = {"kind": "pixel_shuffle", "factor": factor}
    settings["tiles"] = {"max": processor.get("max_patches", 12)}
    marks = ("<img>", "</img>")
    return VisionParts(cast(PreTrainedModel, model.model.vision_tower), settings, connector, marks, config.image_token_id)


def _layer(layer: Any) -> int:
    if not isinstance(layer, int):
        raise ConfigError(f"import: vision_feature_layer: {layer}, expected one layer")
    return layer


def _tower(model: PreTrainedModel, layer: int | None) -> dict[str, Any]:
    """Settings of an encoder that sees what the tower of `model` sees; where its files are is not among them."""
    size = model.config.vision_config.image_size
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) > 1:
        raise ConfigError(f"import: vision_config.image_size: {size}, expected a square")
    only = model.config.vision_feature_select_strategy == "default"
    tower = {"kind": "transformers", "layer": layer, "patches_only": only}
    return {"encoder": {"side": sides.pop(), "tower": tower}}


def _require(config: Any, **wanted: str) -> None:
    for name, value in wanted.items():
        if getattr(config, name) != value:
            raise ConfigError(f"import: {name}: {getattr(config, name)}, expected {value}")
