"""Connectors: features of a frozen encoder become rows of the decoder's input.

| kind | what it does | after |
|---|---|---|
| `linear` | one linear map of each feature | LiMBeR (Merullo et al. 2022, arXiv:2209.15162) |
| `mlp` | two, with a GELU between | LLaVA-1.5 (Liu et al. 2023, arXiv:2310.03744) |
| `pixel_shuffle` | squares of neighbouring patches joined, then an MLP | InternVL 1.5 (Chen et al. 2024, arXiv:2404.16821) |
| `resampler` | learned latents attend to features and each other | Flamingo (Alayrac et al. 2022, arXiv:2204.14198) |
| `qformer` | learned queries, self- and cross-attention in turn | BLIP-2 (Li et al. 2023, arXiv:2301.12597) |
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmpt.layers.qformer import Qformer
from mmpt.model.config import ConnectorConfig


class Connector(nn.Module):
    """[B, N, `feature_width`] of B pictures or sounds → [B, rows, `width`], the decoder's width."""

    def __init__(self, config: ConnectorConfig, feature_width: int, width: int):
        super().__init__()
        inner = config.width or feature_width
        if inner % config.heads and config.kind in ("resampler", "qformer"):
            raise ValueError(f"connector.heads {config.heads} does not divide its width {inner}")
        self.config, self.feature_width, self.width = config, feature_width, width
        build = {
            "linear": lambda: nn.Linear(feature_width, width),
            "mlp": lambda: _mlp(feature_width, width),
            "pixel_shuffle": lambda: PixelShuffle(config.factor, feature_width, width),
            "resampler": lambda: Resampler(config, feature_width, inner, width),
            "qformer": lambda: _QueryConnector(config, feature_width, inner, width),
        }
        self.map = build[config.kind]()
        self.start = nn.Parameter(0.02 * torch.randn(width)) if config.start_token else None

    def forward(self, features: Tensor) -> Tensor:
        rows = self.map(features)
        if self.start is None:
            return rows
        return torch.cat([self.start.expand(len(rows), 1, -1), rows], dim=1)

    def count(self, features: int) -> int:
        """Rows that come of so many features of one picture. Raises `ValueError` where `pixel_shuffle` cannot join them."""
        fixed = {"resampler": self.config.rows, "qformer": self.config.rows}
        if self.config.kind == "pixel_shuffle":
            found = (_side(features, self.config.factor) // self.config.factor) ** 2
        else:
            found = fixed.get(self.config.kind, features)
        return found + (self.start is not None)


class PixelShuffle(nn.Module):
    """Features of a square grid, row by row; `factor` × `factor` neighbours become one of factor² times the width."""

    def __init__(self, factor: int, feature_width: int, width: int):
        super().__init__()
        self.factor = factor
        self.norm = nn.LayerNorm(feature_width * factor**2)
        self.mlp = _mlp(feature_width * factor**2, width)

    def forward(self, features: Tensor) -> Tensor:
        side = _side(features.shape[1], self.factor)
        grid = features.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        return self.mlp(self.norm(F.pixel_unshuffle(grid, self.factor).flatten(2).transpose(1, 2)))


class Resampler(nn.Module):
    """In each block the latents attend to features and latents together, then pass an MLP."""

    def __init__(self, config: ConnectorConfig, feature_width: int, inner: int, width: int):
        super().__init__()
        self.enter = nn.Linear(feature_width, inner) if inner != feature_width else nn.Identity()
        self.latents = nn.Parameter(0.02 * torch.randn(config.rows, inner))
        self.blocks = nn.ModuleList(_ResamplerBlock(inner, config.heads) for _ in range(config.depth))
        self.out = nn.Sequential(nn.LayerNorm(inner), nn.Linear(inner, width))

    def forward(self, features: Tensor) -> Tensor:
        features, latents = self.enter(features), self.latents.expand(len(features), -1, -1)
        for block in self.blocks:
            latents = block(latents, features)
        return self.out(latents)


class _ResamplerBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_features, self.norm_latents = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width, bias=False), nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, latents: Tensor, features: Tensor) -> Tensor:
        own = self.norm_latents(latents)
        keys = self.key_value(torch.cat([self.norm_features(features), own], dim=1)).chunk(2, dim=-1)
        parts = [part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query(own), *keys)]
        latents = latents + self.out(F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))
        return latents + self.mlp(latents)


class _QueryConnector(nn.Module):
    def __init__(self, config: ConnectorConfig, feature_width: int, inner: int, width: int):
        super().__init__()
        self.queries = Qformer(config.rows, inner, config.depth, config.heads, feature_width, causal=False)
        self.out = nn.Linear(inner, width)

    def forward(self, features: Tensor) -> Tensor:
        return self.out(self.queries(features))


def place(embeddings: Tensor, slots: Tensor, rows: Tensor) -> Tensor:
    """`embeddings` [1, T, H] with `rows` [n, H] at the positions `slots` int64 [n]; gradients go to both.

    Raises `ValueError` where there are not as many rows as slots.
    """
    if len(slots) != len(rows):
        raise ValueError(f"{len(rows)} rows of features for {len(slots)} slots")
    return embeddings.index_copy(1, slots, rows.to(embeddings.dtype).unsqueeze(0))


def connected(connector: Connector, features: Tensor | None, tokens: int = 4) -> tuple[Tensor, Tensor]:
    """(rows [n, width] of `features` [B, N, D], a zero that depends on every weight of the connector).

    Add the zero to the loss. Without `features` there are no rows, and the connector runs on `tokens` blank features all the
    same: under ZeRO 3 every rank must gather every parameter, or the others wait for ever (DeepSpeed issue 7170).
    """
    if features is not None and len(features):
        rows = connector(features)
        return rows.flatten(0, 1), 0.0 * rows.sum()
    weight = next(connector.parameters())
    count = connector.config.factor**2 if connector.config.kind == "pixel_shuffle" else tokens
    rows = connector(weight.new_zeros(1, count, connector.feature_width))
    return rows[:0].flatten(0, 1), 0.0 * rows.sum()


def _mlp(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(before, after), nn.GELU(), nn.Linear(after, after))


def _side(features: int, factor: int) -> int:
    side = round(features**0.5)
    if side * side != features or side % factor:
        raise ValueError(f"pixel_shuffle joins squares of {factor} x {factor}: {features} features are no such grid")
    return side
