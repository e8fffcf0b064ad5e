"""The module of `OpenClip`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mmpt.errors import ConfigError
from mmpt.layers.resting import at_rest
from mmpt.tokenizers.image.tower import FrozenTower
from mmpt.tokenizers.image.towers.open_clip import OpenClip


class OpenClipTower(FrozenTower):
    """The image side of an open_clip model: `forward` gives features [B, patches, width], `embed` its image embeddings."""

    model: Any  # a model of open_clip: its methods are not those of nn.Module

    def __init__(self, side: int, config: OpenClip, pretrained: bool):
        import open_clip

        try:
            weights: dict[str, Any] = {"pretrained": config.pretrained} if pretrained and config.pretrained else {}
            model: Any = open_clip.create_model(config.model, weights_only=True, force_image_size=side, **weights).visual
            super().__init__(model, *_statistics(config.model, config.pretrained, model))
            self.width = self(torch.zeros(1, 3, side, side)).shape[-1]
            self.embedding_width = self.embed(torch.zeros(1, 3, side, side)).shape[-1]
        except Exception as problem:  # open_clip raises whatever its models and the hub raise
            raise ConfigError(f"tower: open_clip's {config.model!r} cannot be used with side {side}: {problem}") from None

    @at_rest
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        found = self.model.forward_intermediates(
            self.normalized(pixels), indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NLC"
        )
        return found["image_intermediates"][-1]

    @torch.no_grad()
    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """[B, embedding_width] of pixels [B, 3, side, side], as the model's own `encode_image` gives them, of any length."""
        found = self.model(self.normalized(pixels))
        return found[0] if isinstance(found, tuple) else found

    @torch.no_grad()
    def layer_states(self, pixels: torch.Tensor, layers: list[int]) -> list[torch.Tensor]:
        found = self.model.forward_intermediates(
            self.normalized(pixels), indices=layers, intermediates_only=True, output_fmt="NLC", output_extra_tokens=True
        )
        patches = found["image_intermediates"]
        prefixes = found.get("image_intermediates_prefix", [None] * len(patches))
        pairs = zip(patches, prefixes, strict=True)
        return [part.mean(dim=1) if prefix is None or not prefix.shape[1] else prefix[:, 0] for part, prefix in pairs]


def _statistics(name: str, pretrained: str | None, model: nn.Module) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation of the pixels that an open_clip model was trained on. It knows those of its published weights; to
    weights of a file, or none, it gives CLIP's, which are not SigLIP's."""
    import open_clip

    own: Any = model
    tags = open_clip.list_pretrained_tags_by_model(name)
    published: Any = open_clip.get_pretrained_cfg(name, tags[0]) if tags and pretrained not in tags else {}
    return tuple(published.get("mean") or own.image_mean), tuple(published.get("std") or own.image_std)
