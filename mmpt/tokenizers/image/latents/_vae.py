"""The network of `Vae`."""

from typing import Any, cast

import torch
from torch import Tensor

from mmpt.errors import ConfigError
from mmpt.tokenizers.image.latents.vae import Vae


class VaeLatents:
    """An `AutoencoderKL` of diffusers, at rest, in float32; it goes where its pictures are."""

    def __init__(self, config: Vae):
        try:
            from diffusers import AutoencoderKL  # pyright: ignore  # an optional extra, imported lazily there too
        except ImportError:
            raise ConfigError('decoder.latents: vae needs diffusers: pip install "mmpt[unclip]"') from None
        try:
            network = cast(Any, AutoencoderKL.from_pretrained(config.model, use_safetensors=True, torch_dtype=torch.float32))
        except (OSError, ValueError, TypeError, RuntimeError) as problem:
            raise ConfigError(f"decoder.latents.model: {config.model}: no AutoencoderKL can be loaded ({problem})") from None
        known = network.config
        for name, own in (("channels", known.latent_channels), ("factor", 2 ** (len(known.block_out_channels) - 1))):
            if getattr(config, name) != own:
                raise ConfigError(f"decoder.latents.{name}: {getattr(config, name)}, expected {own}, as {config.model} has")
        self._network = network.eval().requires_grad_(False)
        self._scale, self._shift = known.scaling_factor, known.shift_factor or 0.0

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """The mean of what it takes a picture for: latents of one picture are always the same."""
        with torch.autocast(pixels.device.type, enabled=False):
            latents = self._network.to(pixels.device).encode(pixels.float()).latent_dist.mode()
        return (latents - self._shift) * self._scale

    def decode(self, latents: Tensor) -> Tensor:
        with torch.autocast(latents.device.type, enabled=False):
            return self._network.to(latents.device).decode(latents.float() / self._scale + self._shift).sample
