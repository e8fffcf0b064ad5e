"""From pixels to one state for each code: a vision tower and the causal Q-Former of SEED (Ge et al. 2023, section 3.1)."""

import torch
from torch import nn

from mmpt.errors import ConfigError
from mmpt.tokenizers.image.config import ImageTokenizerConfig, QformerConfig, TimmConfig, VitConfig
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


class TimmTower(nn.Module):
    """Features [B, N, width] of a timm model that never changes: no gradient, no dropout, no batch statistics."""

    def __init__(self, side: int, config: TimmConfig, pretrained: bool):
        super().__init__()
        import timm

        try:
            self.model = timm.create_model(config.timm, pretrained=pretrained, num_classes=0).eval().requires_grad_(False)
            self.register_buffer("mean", torch.tensor(self.model.pretrained_cfg["mean"])[:, None, None])
            self.register_buffer("std", torch.tensor(self.model.pretrained_cfg["std"])[:, None, None])
            self.width = self(torch.zeros(1, 3, side, side)).shape[-1]
        except Exception as problem:  # timm raises whatever its models and the hub raise
            raise ConfigError(f"tower.timm {config.timm!r} cannot be used with side {side}: {problem}") from None

    def train(self, mode: bool = True) -> "TimmTower":
        return super().train(False)

    @torch.no_grad()
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """`pixels` in −1 … 1; the model's own mean and deviation are applied here."""
        features = self.model.forward_features(((pixels + 1) / 2 - self.mean) / self.std)
        if features.ndim == 4:  # convolutional towers give B C H W, windowed transformers B H W C
            last = features.shape[-1] == self.model.num_features
            features = features.flatten(1, 2) if last else features.flatten(2).transpose(1, 2)
        return features


class CausalQformer(nn.Module):
    """Learned queries that attend to the features and, among themselves, only to earlier ones: state t is a function of the
    picture and queries 0 … t, so that the states form a sequence that a causal language model can follow."""

    def __init__(self, config: QformerConfig, feature_width: int):
        super().__init__()
        self.queries = table(config.queries, config.width)
        self.blocks = blocks(config.depth, config.width, config.heads, feature_width)
        with torch.no_grad():
            for block in self.blocks:
                block.cross.query.weight *= config.sharpness
                block.cross.key_value.weight[: config.width] *= config.sharpness
        self.norm = nn.LayerNorm(config.width)
        self.register_buffer("mask", torch.ones(config.queries, config.queries, dtype=torch.bool).tril(), persistent=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """States [B, queries, width] of `features` [B, N, feature_width]."""
        x = self.queries.expand(len(features), -1, -1)
        for block in self.blocks:
            x = block(x, self.mask, features)
        return self.norm(x)


def build_tower(config: ImageTokenizerConfig, pretrained: bool) -> VisionTransformer | TimmTower:
    """The tower that the configuration names; `pretrained` false leaves a timm model's weights to be loaded by the caller."""
    if isinstance(config.tower, TimmConfig):
        return TimmTower(config.side, config.tower, pretrained and config.tower.pretrained)
    return VisionTransformer(config.side, config.tower)
