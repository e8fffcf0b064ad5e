"""Vision towers: one trained from scratch, and frozen ones of timm and open_clip by name."""

import torch
from torch import nn

from mmpt.errors import ConfigError
from mmpt.tokenizers.image.config import OpenClipConfig, TimmConfig, TowerConfig, VitConfig
from mmpt.tokenizers.image.layers import blocks, table


class VisionTransformer(nn.Module):
    """Features [B, patches, width] of pixels [B, 3, side, side]: stride-2 convolutions in place of one large patch projection
    (Xiao et al. 2021, "Early convolutions help transformers see better"), then transformer blocks."""

    def __init__(self, side: int, config: VitConfig):
        super().__init__()
        self.width = config.width
        halvings = config.patch.bit_length() - 1
        channels = [3, *(max(32, config.width >> (halvings - 1 - i)) for i in range(halvings - 1)), config.width]
        layers: list[nn.Module] = []
        for before, after in zip(channels[:-1], channels[1:], strict=True):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.GELU()]
        self.stem = nn.Sequential(*layers[:-1])
        self.positions = table((side // config.patch) ** 2, config.width)
        self.blocks = blocks(config.depth, config.width, config.heads)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.stem(pixels).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class FrozenTower(nn.Module):
    """A published model that never changes: no gradient, no dropout, no batch statistics. It takes pixels in −1 … 1; the model's
    own mean and deviation are applied here."""

    def __init__(self, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def train(self, mode: bool = True) -> "FrozenTower":
        return super().train(False)

    def normalized(self, pixels: torch.Tensor) -> torch.Tensor:
        return ((pixels + 1) / 2 - self.mean) / self.std


class TimmTower(FrozenTower):
    """Features [B, N, width] of a timm model."""

    def __init__(self, side: int, config: TimmConfig, pretrained: bool):
        import timm

        try:
            model = timm.create_model(config.timm, pretrained=pretrained and config.pretrained, num_classes=0)
            if hasattr(model, "set_input_size"):  # a transformer: its table of positions is resampled for other sides
                model.set_input_size(img_size=side)
            super().__init__(model, model.pretrained_cfg["mean"], model.pretrained_cfg["std"])
            self.width = self(torch.zeros(1, 3, side, side)).shape[-1]
        except Exception as problem:  # timm raises whatever its models and the hub raise
            raise ConfigError(f"tower.timm {config.timm!r} cannot be used with side {side}: {problem}") from None

    @torch.no_grad()
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.model.forward_features(self.normalized(pixels))
        if features.ndim == 4:  # convolutional towers give B C H W, windowed transformers B H W C
            last = features.shape[-1] == self.model.num_features
            features = features.flatten(1, 2) if last else features.flatten(2).transpose(1, 2)
        return features


class OpenClipTower(FrozenTower):
    """The picture side of an open_clip model: `forward` gives features [B, patches, width], `embed` its picture embeddings."""

    def __init__(self, side: int, config: OpenClipConfig, pretrained: bool):
        import open_clip

        try:
            weights = {"pretrained": config.pretrained} if pretrained and config.pretrained else {}
            model = open_clip.create_model(config.open_clip, weights_only=True, force_image_size=side, **weights).visual
            super().__init__(model, *_statistics(config.open_clip, config.pretrained, model))
            self.width = self(torch.zeros(1, 3, side, side)).shape[-1]
            self.embedding_width = self.embed(torch.zeros(1, 3, side, side)).shape[-1]
        except Exception as problem:  # open_clip raises whatever its models and the hub raise
            raise ConfigError(f"open_clip {config.open_clip!r} cannot be used with side {side}: {problem}") from None

    @torch.no_grad()
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        found = self.model.forward_intermediates(
            self.normalized(pixels), indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NLC"
        )
        return found["image_intermediates"][-1]

    @torch.no_grad()
    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """[B, embedding_width], as the model's own `encode_image` gives them, of any length."""
        found = self.model(self.normalized(pixels))
        return found[0] if isinstance(found, tuple) else found


def _statistics(name: str, pretrained: str | None, model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the pixels that an open_clip model was trained on. It knows those of its published weights; to
    weights of a file, or none, it gives CLIP's, which are not SigLIP's."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name)
    published = open_clip.get_pretrained_cfg(name, tags[0]) if tags and pretrained not in tags else {}
    return tuple(published.get("mean") or model.image_mean), tuple(published.get("std") or model.image_std)


def build_tower(side: int, config: TowerConfig, pretrained: bool) -> VisionTransformer | TimmTower | OpenClipTower:
    """The tower that the configuration names; `pretrained` false leaves published weights to be loaded by the caller."""
    if isinstance(config, TimmConfig):
        return TimmTower(side, config, pretrained)
    if isinstance(config, OpenClipConfig):
        return OpenClipTower(side, config, pretrained)
    return VisionTransformer(side, config)
