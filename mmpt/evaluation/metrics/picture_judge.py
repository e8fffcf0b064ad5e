"""A network in whose features pictures are compared, one by one and as sets."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mmpt.errors import ConfigError
from mmpt.tokenizers.image.gates import JudgeConfig
from mmpt.tokenizers.image.perceptual._lpips import load_lpips
from mmpt.tokenizers.image.pixels import to_pixels

if TYPE_CHECKING:
    from mmpt.tokenizers.image.tower import TowerModule

TOGETHER = 32
WIDTHS, SEED = (32, 64, 128), 0


class PictureJudge:
    """`name` says which network and which weights; pictures are uint8 [n, height, width, 3], squares of any side."""

    def __init__(self, config: JudgeConfig, side: int) -> None:
        self.side = config.side or side
        self._tower: TowerModule | RandomConvolutions
        if config.tower is None:
            self.name = f"random convolutions of seed {SEED} at {self.side} pixels"
            self._tower = RandomConvolutions()
        else:
            if not config.tower.frozen:
                raise ConfigError(
                    f"gates.judge.tower: kind {config.tower.kind} learns with the tokenizer, expected a published one"
                )
            told = ", ".join(f"{key} {value}" for key, value in config.tower.model_dump(mode="json").items() if value)
            self.name = f"{told} at {self.side} pixels"
            self._tower = config.tower.build(self.side)
        self._tower.eval().requires_grad_(False)
        self._lpips = load_lpips(config.lpips.net, config.lpips.weights) if config.lpips else None
        if config.lpips:
            self.name = f"LPIPS of {config.lpips.net} at {self.side} pixels, sets by {self.name}"

    @torch.inference_mode()
    def distance(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Float [n]: squared distance of the features at each place, each of length 1, the mean over places and layers (LPIPS
        without its learned weights, Zhang et al. 2018, arXiv:1801.03924, equation 1), or LPIPS itself. 0 of equal pictures."""
        if self._lpips:
            apart = (
                self._lpips(self._pixels(one[i : i + TOGETHER]), self._pixels(other[i : i + TOGETHER])) for i in _starts(one)
            )
            return np.concatenate([np.zeros(0), *(rows.double().numpy() for rows in apart)])
        found = [_apart(self._layers(one[i : i + TOGETHER]), self._layers(other[i : i + TOGETHER])) for i in _starts(one)]
        return np.concatenate([np.zeros(0), *found])

    def vectors(self, pictures: np.ndarray) -> np.ndarray:
        """Float [n, D]: the last features, the mean over places."""
        return np.concatenate([self._layers(pictures[i : i + TOGETHER])[-1].mean(dim=1).numpy() for i in _starts(pictures)])

    @torch.inference_mode()
    def _layers(self, pictures: np.ndarray) -> list[torch.Tensor]:
        """[n, places, channels] of each layer that is compared."""
        found = self._tower(self._pixels(pictures))
        return [one.float() for one in (found if isinstance(found, list) else [found])]

    def _pixels(self, pictures: np.ndarray) -> torch.Tensor:
        """float32 [n, 3, self.side, self.side]."""
        pixels = to_pixels(pictures)
        if pixels.shape[-1] != self.side:
            size = (self.side, self.side)
            pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)
        return pixels


class RandomConvolutions(nn.Module):
    """Three layers of 3 × 3 convolutions that never learn, each after a halving of the side; the same on every machine."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(SEED)
        self.layers = nn.ModuleList()
        for before, after in zip((3, *WIDTHS[:-1]), WIDTHS, strict=True):
            layer = nn.Conv2d(before, after, 3, padding=1, bias=False)
            with torch.no_grad():
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=draw) * (2 / (9 * before)) ** 0.5)
            self.layers.append(layer)

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """[B, places, channels] of each layer of pixels [B, 3, side, side]."""
        found = []
        for layer in self.layers:
            pixels = F.avg_pool2d(F.relu(layer(pixels)), 2)
            found.append(pixels.flatten(2).transpose(1, 2))
        return found


def psnr(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB of uint8 pictures [n, …], of each pair; 78 where they are equal."""
    apart = np.array([np.square(a.astype(np.float64) - b).mean() for a, b in zip(one, other, strict=True)])
    return 10 * np.log10(255**2 / np.maximum(apart, 1e-3))


def _starts(pictures: np.ndarray) -> range:
    return range(0, len(pictures), TOGETHER)


def _apart(one: list[torch.Tensor], other: list[torch.Tensor]) -> np.ndarray:
    layers = [
        (F.normalize(a, dim=-1) - F.normalize(b, dim=-1)).square().sum(dim=-1).mean(dim=1)
        for a, b in zip(one, other, strict=True)
    ]
    return torch.stack(layers).mean(dim=0).double().numpy()
