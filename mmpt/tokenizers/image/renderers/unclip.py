"""A published diffusion model that draws from image embeddings."""

from typing import TYPE_CHECKING, ClassVar

import pydantic

from mmpt.tokenizers.image.renderers import Renderer

if TYPE_CHECKING:
    from mmpt.tokenizers.image.renderers._unclip import UnclipRenderer
    from mmpt.tokenizers.image.tokenizer import ImageTokenizer


class Unclip(Renderer):
    """From the embedding that the codes predict, by a published unCLIP model (Ramesh et al. 2022, arXiv:2204.06125), as SEED
    draws (Ge et al. 2023, arXiv:2307.08041, section 3.2: Stable Diffusion 2.1 unCLIP, embeddings of open_clip's ViT-H-14, 1024
    values)."""

    carries: ClassVar[tuple[str, ...]] = ("SEED tokenizer / SEED-LLaMA",)

    model: str
    """A `StableUnCLIPImg2ImgPipeline` of diffusers: a folder or Hugging Face name; safetensors alone are read."""
    steps: int = pydantic.Field(default=20, ge=1)
    """Steps of its diffusion."""
    guidance: float = pydantic.Field(default=10.0, ge=1)
    """Its classifier-free guidance; 1: none."""

    def build(self, tokenizer: "ImageTokenizer") -> "UnclipRenderer":
        from mmpt.tokenizers.image.renderers._unclip import UnclipRenderer

        return UnclipRenderer(self, tokenizer)

    def problems(self, branches: bool) -> list[str]:
        return [] if branches else ["renderer.kind unclip draws from the embeddings that `branches` predict, which are missing"]
