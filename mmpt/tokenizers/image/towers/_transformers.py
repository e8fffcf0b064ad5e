"""The module of `Transformers`."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from mmpt.errors import ConfigError
from mmpt.layers.resting import at_rest
from mmpt.tokenizers.image.tower import FrozenTower
from mmpt.tokenizers.image.towers.transformers import Transformers


class TransformersTower(FrozenTower):
    """Features [B, N, width] of a vision transformer of transformers. `prefix`: tokens in front of those of patches."""

    model: Any  # its methods are not those of nn.Module

    def __init__(self, side: int, config: Transformers, pretrained: bool):
        source = Path(config.model) if Path(config.model).exists() else config.model
        try:
            whole = AutoConfig.from_pretrained(source)
            vision = getattr(whole, "vision_config", whole)
            if pretrained and config.pretrained:
                model: Any = AutoModel.from_pretrained(source, config=vision, use_safetensors=True)
            else:
                model = AutoModel.from_config(vision)
            patch, own = _side(model.config.patch_size), _side(model.config.image_size)
            if side % patch:
                raise ValueError(f"its patches have {patch} pixels, which do not divide that side")
            super().__init__(model, *_statistics(source))
            self.width = model.config.hidden_size
            self._layer, self._patches_only, self._patches = config.layer, config.patches_only, (side // patch) ** 2
            # Those that do not ask for it interpolate whenever it is needed.
            asks = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
            self._options = {"interpolate_pos_encoding": True} if asks and side != own else {}
            with torch.no_grad():
                every = self.model(torch.zeros(1, 3, side, side), **self._options).last_hidden_state
            self.prefix = every.shape[1] - self._patches
        except Exception as problem:  # transformers raises whatever its models and the hub raise
            raise ConfigError(f"tower: transformers' {config.model!r} cannot be used with side {side}: {problem}") from None

    @at_rest
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if self._layer is None:
            features = self.model(self.normalized(pixels), **self._options).last_hidden_state
        else:
            features = self._states(pixels)[self._layer]
        return features[:, -self._patches :] if self._patches_only else features

    @torch.no_grad()
    def layer_states(self, pixels: torch.Tensor, layers: list[int]) -> list[torch.Tensor]:
        found = [self._states(pixels)[layer + 1] for layer in layers]
        return [states[:, 0] if states.shape[1] > self._patches else states.mean(dim=1) for states in found]

    def _states(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Before the first layer and after each."""
        return self.model(self.normalized(pixels), output_hidden_states=True, **self._options).hidden_states


def _side(size: int | Sequence[int]) -> int:
    """Of a square, which some models give as two numbers."""
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) > 1:
        raise ValueError(f"{size}: it takes no squares")
    return sides.pop()


def _statistics(source: Path | str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation of the pixels that the model was trained on; where it does not say, what maps them to −1 … 1."""
    try:
        own: Any = AutoImageProcessor.from_pretrained(source)
        return tuple(own.image_mean), tuple(own.image_std)
    except (OSError, ValueError, TypeError, ImportError):
        return (0.5,) * 3, (0.5,) * 3
