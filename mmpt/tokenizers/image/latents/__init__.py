"""Latents: a published autoencoder in whose latents the decoder learns and draws, instead of in pixels.

latents: {kind: vae, model: stabilityai/sd-vae-ft-mse}
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol

import pydantic

from mmpt.methods import Method

if TYPE_CHECKING:
    from torch import Tensor


class Autoencoder(Protocol):
    """What a `Latents` loads. Nothing of it learns, and it is part of no checkpoint."""

    def encode(self, pixels: "Tensor") -> "Tensor":
        """float32 [B, channels, side / factor, side / factor], about of deviation 1, of `pixels` [B, 3, side, side] in −1 … 1."""
        ...

    def decode(self, latents: "Tensor") -> "Tensor":
        """float32 [B, 3, side, side], about −1 … 1, with the gradient of `latents`."""
        ...


class Latents(Method):
    """What makes latents of pictures and pictures of latents. `load` gives the network that does."""

    key: ClassVar[str] = "latents"

    channels: int = pydantic.Field(default=4, ge=1)
    """Values of a latent."""
    factor: int = pydantic.Field(default=8, ge=1)
    """Pixels of a side that one latent stands for."""

    @abstractmethod
    def load(self) -> Autoencoder:
        """Raises `ConfigError` where it cannot be loaded, or has other `channels` or another `factor`."""
