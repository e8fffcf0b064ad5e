"""From the vectors of the codes back to pixels: a coarse image, and what a flow draws from it, both perhaps of latents."""

import math

import torch
from torch import nn

from mmpt.layers.attention import blocks
from mmpt.layers.positions import table
from mmpt.tokenizers.image.config import DecoderConfig
from mmpt.tokenizers.image.flow import PixelFlow
from mmpt.tokenizers.image.latents import Autoencoder, Latents


class ImageDecoder(nn.Module):
    """Also of a beginning of the codes: those that are not given are replaced by learned vectors that stand for nothing.

    What it learns and draws is a canvas: pixels, or the latents of a published autoencoder."""

    def __init__(self, side: int, queries: int, code_dim: int, config: DecoderConfig):
        super().__init__()
        self.nothing = table(queries, code_dim)
        self.latents = config.latents
        self._autoencoder: Autoencoder | None = None
        channels, side = config.canvas(side)
        self.coarse = PixelDecoder(side, queries, code_dim, config, channels)
        self.flow = PixelFlow(config.flow, side, queries, code_dim, channels) if config.flow else None

    def first(self, vectors: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """`vectors` [B, queries, D] of which only the first `counts` [B] are given."""
        given = torch.arange(vectors.shape[1], device=vectors.device) < counts[:, None]
        return torch.where(given[..., None], vectors, self.nothing.to(vectors.dtype))

    def draw(self, vectors: torch.Tensor, seed: int, guidance: float | None = None) -> torch.Tensor:
        """Images [B, 3, side, side], about −1 … 1, of `vectors` [B, queries, D], from the noise of `seed`."""
        coarse = self.coarse(vectors)
        if self.flow is None:
            return self.shown(coarse)
        nothing = self.nothing.to(vectors.dtype).expand_as(vectors)
        conditions = (coarse, vectors), (self.coarse(nothing[:1]).expand_as(coarse), nothing)
        return self.shown(self.flow.sample(*conditions, seed, guidance))

    def canvas(self, pixels: torch.Tensor) -> torch.Tensor:
        """What is to be drawn of `pixels` [B, 3, side, side]."""
        return pixels if self.latents is None else self._loaded(self.latents).encode(pixels)

    def shown(self, canvas: torch.Tensor) -> torch.Tensor:
        """The pixels [B, 3, side, side] of a canvas, with its gradient."""
        return canvas if self.latents is None else self._loaded(self.latents).decode(canvas)

    def _loaded(self, latents: Latents) -> Autoencoder:
        # Where it is first asked for, and as no module: a published network does not belong into checkpoints.
        if self._autoencoder is None:
            self._autoencoder = latents.load()
        return self._autoencoder


class PixelDecoder(nn.Module):
    """All code vectors, joined, give the first state of every patch by one linear map (as in SEED's released de-tokenizer, which
    joins the codes for its one image embedding), or stand beside the patches in the blocks (as in TiTok); blocks, and
    convolutions that grow the side by a factor each, refine it to pixels."""

    def __init__(self, side: int, queries: int, code_dim: int, config: DecoderConfig, channels: int = 3):
        super().__init__()
        self.grid, self.width = side // config.patch, config.width
        joined = config.join == "linear"
        self.first = nn.Linear(queries * code_dim, self.grid**2 * config.width) if joined else nn.Linear(code_dim, config.width)
        self.places = None if joined else table(queries, config.width)
        self.positions = table(self.grid**2, config.width)
        self.blocks = blocks(config.depth, config.width, config.heads)
        factors = prime_factors(config.patch) or [1]
        grown = [math.prod(factors[: i + 1]) for i in range(len(factors))]
        widths = [config.width, *(max(32, config.width // factor) for factor in grown[:-1]), channels]
        layers: list[nn.Module] = []
        for before, after, factor in zip(widths[:-1], widths[1:], factors, strict=True):
            layers += [nn.GELU(), nn.Conv2d(before, factor**2 * after, 3, 1, 1), nn.PixelShuffle(factor)]
        self.upsampling = nn.Sequential(*layers)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """A canvas [B, channels, side, side], pixels of −1 … 1 where training went well, of `vectors` [B, queries, code_dim]."""
        if self.places is None:
            x = self.first(vectors.flatten(1)).unflatten(1, (self.grid**2, self.width)) + self.positions
        else:
            x = torch.cat([self.positions.expand(len(vectors), -1, -1), self.first(vectors) + self.places], dim=1)
        for block in self.blocks:
            x = block(x)
        x = x[:, : self.grid**2]
        return self.upsampling(x.transpose(1, 2).unflatten(2, (self.grid, self.grid)))

    @property
    def last(self) -> torch.Tensor:
        """The weight of the last layer."""
        return next(layer.weight for layer in reversed(self.upsampling) if isinstance(layer, nn.Conv2d))


def prime_factors(number: int) -> list[int]:
    """The largest first, so that what grows most does so where there is least; none of 1."""
    found, factor = [], 2
    while number > 1:
        while number % factor == 0:
            found.append(factor)
            number //= factor
        factor += 1
    return found[::-1]
