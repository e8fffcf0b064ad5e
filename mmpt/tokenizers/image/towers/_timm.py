"""The module of `Timm`."""

import inspect
from typing import Any

import torch

from mmpt.errors import ConfigError
from mmpt.layers.resting import at_rest
from mmpt.tokenizers.image.tower import FrozenTower
from mmpt.tokenizers.image.towers._positions import resampled
from mmpt.tokenizers.image.towers.timm import Timm


class TimmTower(FrozenTower):
    """Features [B, N, width] of a timm model."""

    model: Any  # a model of timm: its methods are not those of nn.Module

    def __init__(self, side: int, config: Timm, pretrained: bool):
        try:
            model = _model(side, config.model, pretrained and config.pretrained)
            super().__init__(model, model.pretrained_cfg["mean"], model.pretrained_cfg["std"])
            self._first = 0
            every = self(torch.zeros(1, 3, side, side))
            if every.shape[1] == 1 and side >= 2 * model.feature_info[-1]["reduction"]:
                raise ValueError("it gives a class token alone, and nothing of where in the image something is")
            if config.patches_only:
                # Not every class that has such tokens counts them.
                self._first = getattr(model, "num_prefix_tokens", every.shape[1] - int(every.shape[1] ** 0.5) ** 2)
            self.width = every.shape[-1]
        except Exception as problem:  # timm raises whatever its models and the hub raise
            raise ConfigError(f"tower: timm's {config.model!r} cannot be used with side {side}: {problem}") from None

    @at_rest
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return feature_rows(self.model, self.model.forward_features(self.normalized(pixels)))[:, self._first :]

    @torch.no_grad()
    def layer_states(self, pixels: torch.Tensor, layers: list[int]) -> list[torch.Tensor]:
        asked = {"indices": layers, "intermediates_only": True}
        if "return_prefix_tokens" in inspect.signature(self.model.forward_intermediates).parameters:
            asked |= {"return_prefix_tokens": True}
        found = self.model.forward_intermediates(self.normalized(pixels), **asked)
        pairs = [one if isinstance(one, tuple) else (one, None) for one in found]
        return [prefix[:, 0] if prefix is not None and prefix.shape[1] else maps.mean(dim=(2, 3)) for maps, prefix in pairs]


def feature_rows(model: Any, features: Any) -> torch.Tensor:
    """[B, N, width] of what `forward_features` of a timm model gives. Raises `ValueError` where that is not one tensor."""
    if isinstance(features, (list, tuple)):
        raise ValueError("it gives several maps of features, not one")
    if features.ndim == 4:  # convolutional towers give B C H W, some windowed transformers B H W C
        last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        features = features.flatten(1, 2) if last else features.flatten(2).transpose(1, 2)
    return features


def _model(side: int, name: str, pretrained: bool) -> Any:
    """The model for images of that side: as it is where it takes them, else with its positions resampled."""
    import timm

    model: Any = timm.create_model(name, pretrained=pretrained, num_classes=0)
    if hasattr(model, "set_input_size"):
        model.set_input_size(img_size=side)
    elif side != model.pretrained_cfg["input_size"][-1] and not _takes(model, side):
        # Its tables are those of one side, and timm resamples those of few such classes where weights are read.
        other: Any = timm.create_model(name, num_classes=0, img_size=side)
        other.load_state_dict(resampled(model.state_dict(), other.state_dict()))
        return other
    return model


def _takes(model: Any, side: int) -> bool:
    try:
        with torch.no_grad():
            model.eval().forward_features(torch.zeros(1, 3, side, side))
    except Exception:  # whatever a model raises where a table has another shape
        return False
    return True
