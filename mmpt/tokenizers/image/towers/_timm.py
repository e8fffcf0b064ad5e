"""The module of `Timm`."""

from typing import Any

import torch

from mmpt.errors import ConfigError
from mmpt.layers.resting import at_rest
from mmpt.tokenizers.image.tower import FrozenTower
from mmpt.tokenizers.image.towers.timm import Timm


class TimmTower(FrozenTower):
    """Features [B, N, width] of a timm model."""

    model: Any  # a model of timm: its methods are not those of nn.Module

    def __init__(self, side: int, config: Timm, pretrained: bool):
        import timm

        try:
            model: Any = timm.create_model(config.model, pretrained=pretrained and config.pretrained, num_classes=0)
            if hasattr(model, "set_input_size"):  # a transformer: its table of positions is resampled for other sides
                model.set_input_size(img_size=side)
            self._first = model.num_prefix_tokens if config.patches_only else 0
            super().__init__(model, model.pretrained_cfg["mean"], model.pretrained_cfg["std"])
            self.width = self(torch.zeros(1, 3, side, side)).shape[-1]
        except Exception as problem:  # timm raises whatever its models and the hub raise
            raise ConfigError(f"tower: timm's {config.model!r} cannot be used with side {side}: {problem}") from None

    @at_rest
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.model.forward_features(self.normalized(pixels))
        if features.ndim == 4:  # convolutional towers give B C H W, windowed transformers B H W C
            last = features.shape[-1] == self.model.num_features
            features = features.flatten(1, 2) if last else features.flatten(2).transpose(1, 2)
        return features[:, self._first :]

    @torch.no_grad()
    def layer_states(self, pixels: torch.Tensor, layers: list[int]) -> list[torch.Tensor]:
        found = self.model.forward_intermediates(
            self.normalized(pixels), indices=layers, return_prefix_tokens=True, intermediates_only=True, output_fmt="NLC"
        )
        return [prefix[:, 0] if prefix is not None and prefix.shape[1] else patches.mean(dim=1) for patches, prefix in found]
