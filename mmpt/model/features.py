"""Frozen encoders whose features a connector takes: vision towers of timm and open_clip, Whisper for sound, each by name."""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import WhisperConfig, WhisperModel

from mmpt.config import Schema
from mmpt.errors import ConfigError
from mmpt.tokenizers.image.config import OpenClipConfig, TimmConfig
from mmpt.tokenizers.image.towers import build_tower


class PictureFeaturesConfig(Schema):
    """Pictures squashed to `side` × `side` through a frozen tower."""

    side: int
    tower: TimmConfig | OpenClipConfig


class WhisperFeaturesConfig(Schema):
    """Sound through a frozen Whisper encoder: a folder or Hugging Face name."""

    whisper: str


FeaturesConfig = PictureFeaturesConfig | WhisperFeaturesConfig


def build_features(config: FeaturesConfig, pretrained: bool = True) -> nn.Module:
    """A frozen module with a `width`, whose call gives features [B, N, width]: of pixels [B, 3, side, side] in −1 … 1, or of
    log-mels [B, bands, frames] as Whisper's feature extractor makes them.

    `pretrained` false builds it without weights, for the caller to load. Raises `ConfigError` naming what cannot be loaded.
    """
    if isinstance(config, PictureFeaturesConfig):
        return build_tower(config.side, config.tower, pretrained)
    return WhisperFeatures(config, pretrained)


class WhisperFeatures(nn.Module):
    """The encoder of a Whisper model, at rest: no gradient, no dropout."""

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

    def train(self, mode: bool = True) -> "WhisperFeatures":
        return super().train(False)

    @torch.no_grad()
    def forward(self, mels: Tensor) -> Tensor:
        return self.model(mels).last_hidden_state
