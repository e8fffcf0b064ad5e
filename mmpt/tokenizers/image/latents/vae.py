"""The latents of a published variational autoencoder."""

from typing import TYPE_CHECKING

from mmpt.tokenizers.image.latents import Latents

if TYPE_CHECKING:
    from mmpt.tokenizers.image.latents._vae import VaeLatents


class Vae(Latents):
    """Latents of a published VAE, as latent diffusion has them (Rombach et al. 2022, arXiv:2112.10752, section 3.1): codes give
    latents, which its decoder makes a picture of, so that texture need not be learned. Emu (Sun et al. 2023, arXiv:2307.05222)
    and LaVIT (Jin et al. 2023, arXiv:2309.04669) draw in them."""

    model: str
    """An `AutoencoderKL` of diffusers: a folder or Hugging Face name; safetensors alone are read, where pictures are first
    drawn or learned from."""

    def load(self) -> "VaeLatents":
        from mmpt.tokenizers.image.latents._vae import VaeLatents

        return VaeLatents(self)
