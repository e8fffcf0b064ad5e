"""Image tokenizers of others at the size of a specification: as many codes of as large a codebook, so as many bits, on the same
pictures, for as many seconds of a processor.

Both learn to draw alone: neither reads captions.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from vector_quantize_pytorch import ResidualVQ, VectorQuantize

from mmpt.layers.attention import blocks
from mmpt.layers.positions import table
from mmpt.layers.qformer import Qformer
from mmpt.tokenizers.image.batches import ImageBatch
from mmpt.tokenizers.image.config import ImageTokenizerConfig
from mmpt.tokenizers.image.decoder import PixelDecoder
from mmpt.tokenizers.image.pixels import to_pixels

TOGETHER = 64


class Rival(nn.Module):
    """Pixels to code vectors, a codebook of vector-quantize-pytorch, and back: by `coded` and `drawn` of a kind."""

    quantizer: Any
    # k-means at the start and dead codes replaced, as its documentation advises; the rest its defaults.
    options = {"kmeans_init": True, "threshold_ema_dead_code": 2}

    def __init__(self, config: ImageTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.books, self.size = config.quantizer.depth, config.figures.codes // config.quantizer.depth

    def coded(self, pixels: torch.Tensor) -> torch.Tensor:
        """[B, vectors, dim] of pixels [B, 3, side, side]."""
        raise NotImplementedError

    def drawn(self, vectors: torch.Tensor) -> torch.Tensor:
        """Pixels of vectors."""
        raise NotImplementedError

    def numbered(self, indices: torch.Tensor) -> torch.Tensor:
        """Codes [B, codes_per_image] of what the quantizer calls them."""
        return indices

    def indices(self, codes: torch.Tensor) -> torch.Tensor:
        """The inverse of `numbered`."""
        return codes

    def vectors(self) -> np.ndarray:
        """What each code stands for [codes, dim]."""
        raise NotImplementedError

    def loss(self, pixels: torch.Tensor) -> torch.Tensor:
        vectors, _, commitment = self.quantizer(self.coded(pixels))
        return 10 * F.mse_loss(self.drawn(vectors), pixels) + commitment.sum()

    @torch.inference_mode()
    def encode(self, pictures: np.ndarray) -> np.ndarray:
        """Codes int64 [n, codes_per_image] of uint8 [n, side, side, 3]."""
        pieces = np.array_split(pictures, max(1, len(pictures) // TOGETHER))
        return np.concatenate([self.numbered(self.quantizer(self.coded(to_pixels(piece)))[1]).numpy() for piece in pieces])

    @torch.inference_mode()
    def decode(self, codes: np.ndarray) -> np.ndarray:
        """uint8 [n, side, side, 3]."""
        found = []
        for piece in torch.from_numpy(codes).split(TOGETHER):
            drawn = self.drawn(self.quantizer.get_output_from_indices(self.indices(piece)))
            found.append(((drawn + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy())
        return np.concatenate(found)


class Autoencoder(Rival):
    """vector-quantize-pytorch (lucidrains) in an autoencoder of the specification's own tower, queries and decoder; its residual
    quantiser, of as many codebooks as the specification's."""

    def __init__(self, config: ImageTokenizerConfig) -> None:
        super().__init__(config)
        asked, dim = config.qformer, config.quantizer.dim
        self.quantizer = ResidualVQ(dim=dim, codebook_size=self.size, num_quantizers=self.books, **self.options)
        self.tower = config.tower.build(config.side)
        shape = (asked.queries, asked.width, asked.depth, asked.heads)
        self.queries = Qformer(*shape, self.tower.width, asked.sharpness, causal=False)
        self.down = nn.Linear(asked.width, dim)
        self.decoder = PixelDecoder(config.side, asked.queries, dim, config.decoder)

    def coded(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.down(self.queries(self.tower(pixels)))

    def drawn(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.decoder(vectors)

    def numbered(self, indices: torch.Tensor) -> torch.Tensor:
        # Those of the first codebook before those of the second, as in our tokens.
        return (indices + self.size * torch.arange(self.books)).transpose(1, 2).flatten(1)

    def indices(self, codes: torch.Tensor) -> torch.Tensor:
        return codes.unflatten(1, (self.books, -1)).transpose(1, 2) % self.size

    def vectors(self) -> np.ndarray:
        return cast(torch.Tensor, self.quantizer.codebooks).flatten(0, 1).detach().numpy()


class Titok(Rival):
    """After TiTok (Yu et al. 2024, arXiv:2406.07550): a ViT reads patches and latent tokens together, the latent tokens alone are
    quantised (of length 1, as there), and a ViT draws the patches from them and mask tokens. One codebook; as many latent tokens
    as the specification has codes for a picture. One stage, by pixels alone."""

    depth = 4

    def __init__(self, config: ImageTokenizerConfig) -> None:
        super().__init__(config)
        width, heads = config.qformer.width, config.qformer.heads
        dim, queries = config.quantizer.dim, config.figures.codes_per_image
        self.quantizer = VectorQuantize(dim, self.size, use_cosine_sim=True, **self.options)
        self.patch = getattr(config.tower, "patch", config.decoder.patch)
        self.grid = config.side // self.patch
        self.embed = nn.Conv2d(3, width, self.patch, self.patch)
        self.latent = table(queries, width)
        self.mask = table(1, width)
        self.places, self.places_out = table(self.grid**2, width), table(self.grid**2 + queries, width)
        self.encoder, self.decoder = blocks(self.depth, width, heads), blocks(self.depth, width, heads)
        self.down = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))
        self.up = nn.Linear(dim, width)
        self.pixels = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3 * self.patch**2))

    def coded(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.embed(pixels).flatten(2).transpose(1, 2) + self.places
        x = torch.cat([x, self.latent.expand(len(x), -1, -1)], dim=1)
        for block in self.encoder:
            x = block(x)
        return self.down(x[:, self.grid**2 :])

    def drawn(self, vectors: torch.Tensor) -> torch.Tensor:
        masks = self.mask.expand(len(vectors), self.grid**2, -1)
        x = torch.cat([masks, self.up(vectors)], dim=1) + self.places_out
        for block in self.decoder:
            x = block(x)
        x = self.pixels(x[:, : self.grid**2]).transpose(1, 2).unflatten(2, (self.grid, self.grid))
        return F.pixel_shuffle(x, self.patch)

    def vectors(self) -> np.ndarray:
        return self.quantizer.get_output_from_indices(torch.arange(self.size)[:, None])[:, 0].detach().numpy()


RIVALS: dict[str, Callable[[ImageTokenizerConfig], Rival]] = {"vector-quantize-pytorch": Autoencoder, "TiTok-like": Titok}


def learn(model: Rival, batches: Callable[[int, int, int], ImageBatch], seconds: float, rate: float) -> int:
    """Train for so many seconds of this process; the rate rises for the first 2 % and falls to 0. Returns the steps."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, rate, weight_decay=0.01)
    begin, step = time.process_time(), 0
    model.train()
    while (done := (time.process_time() - begin) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (done + 0.001) / 0.02) * (1 - done)
        loss = model.loss(batches(step, 0, 1).pixels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        step += 1
    model.eval()
    return step


def parameters(modules: Sequence[nn.Module]) -> int:
    """How many there are."""
    return sum(weight.numel() for module in modules for weight in module.parameters())
