import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmpt.model.connectors.resampler import Resampler


class Latents(nn.Module):
    """In each block the latents attend to features and latents together, then pass an MLP."""

    def __init__(self, settings: Resampler, feature_width: int, inner: int, width: int):
        super().__init__()
        self.enter = nn.Linear(feature_width, inner) if inner != feature_width else nn.Identity()
        self.latents = nn.Parameter(0.02 * torch.randn(settings.rows, inner))
        self.blocks = nn.ModuleList(_Block(inner, settings.heads) for _ in range(settings.depth))
        self.out = nn.Sequential(nn.LayerNorm(inner), nn.Linear(inner, width))

    def forward(self, features: Tensor) -> Tensor:
        features, latents = self.enter(features), self.latents.expand(len(features), -1, -1)
        for block in self.blocks:
            latents = block(latents, features)
        return self.out(latents)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_features, self.norm_latents = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width, bias=False), nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, latents: Tensor, features: Tensor) -> Tensor:
        own = self.norm_latents(latents)
        # Keys of the latents beside those of the features: one softmax then does the self-attention, too.
        keys = self.key_value(torch.cat([self.norm_features(features), own], dim=1)).chunk(2, dim=-1)
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query(own), *keys))
        latents = latents + self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return latents + self.mlp(latents)
