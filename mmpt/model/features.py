"""Frozen encoders whose features a connector takes: vision towers of timm and open_clip, Whisper for sound, each by name."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import WhisperConfig, WhisperModel

from mmpt.errors import ConfigError
from mmpt.layers.resting import Resting, at_rest
from mmpt.model.config import FeaturesConfig, PictureFeaturesConfig, WhisperFeaturesConfig
from mmpt.tokenizers.image.tower import FrozenTower


def build_features(config: FeaturesConfig, pretrained: bool = True) -> Resting:
    """A resting module with a `width`, whose call gives features [B, N, width]: of pixels [B, 3, side, side] in −1 … 1, or of
    log-mels [B, bands, frames] as Whisper's feature extractor makes them.

    `pretrained` false builds it without weights, for the caller to load. Raises `ConfigError` naming what cannot be loaded.
    """
    if isinstance(config, PictureFeaturesConfig):
        return cast(FrozenTower, config.tower.build(config.side, pretrained))
    return WhisperFeatures(config, pretrained)


def layer_states(encoder: Resting, inputs: Tensor, layers: Sequence[int]) -> Tensor:
    """One state of each picture or sound after each of `layers` (rising, counted from 0): [B, len(layers), width].

    `encoder` is of `build_features`, with its inputs. Of a vision transformer the class token (the mean of all patches where it
    has none), of Whisper the mean over time. Raises `ConfigError` for other encoders and layers that are not there.
    """
    try:
        if not layers or list(layers) != sorted({layer for layer in layers if layer >= 0}):
            raise ValueError("expected rising ones from 0 on")
        with torch.no_grad():
            return torch.stack(list(_states(encoder, inputs, list(layers))), dim=1)
    except (AttributeError, TypeError, AssertionError, IndexError, ValueError) as problem:
        raise ConfigError(f"features: {type(encoder).__name__} gives no states of layers {list(layers)} ({problem})") from None


def _states(encoder: Any, inputs: Tensor, layers: list[int]) -> Iterator[Tensor]:
    if isinstance(encoder, WhisperFeatures):
        # The last of these is after the final norm, as is the encoder's output.
        yield from (encoder.states(inputs)[layer + 1].mean(dim=1) for layer in layers)
    elif isinstance(encoder, FrozenTower):
        yield from encoder.layer_states(inputs, layers)
    else:
        raise TypeError("no vision tower and no Whisper")


class WhisperFeatures(Resting):
    """The encoder of a Whisper model."""

    def __init__(self, config: WhisperFeaturesConfig, pretrained: bool = True):
        super().__init__()
        name = config.whisper
        source = Path(name) if Path(name).exists() else name
        try:
            if pretrained:
                model = WhisperModel.from_pretrained(source, use_safetensors=True)
            else:
                model = WhisperModel(WhisperConfig.from_pretrained(source))
        except (OSError, ValueError, KeyError) as problem:
            raise ConfigError(f"features.whisper {name!r} cannot be loaded: {str(problem).splitlines()[0]}") from None
        self.model = model.get_encoder().eval().requires_grad_(False)
        self.width = model.config.d_model

    def wake(self) -> None:
        super().wake()
        self.model.embed_positions.requires_grad_(False)  # sinusoids

    @at_rest
    def forward(self, mels: Tensor) -> Tensor:
        return self.model(mels).last_hidden_state

    @torch.no_grad()
    def states(self, mels: Tensor) -> tuple[Tensor, ...]:
        """[B, N, width] before the first layer and after each."""
        return self.model(mels, output_hidden_states=True).hidden_states
