"""The tokenizer's own decoder."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pydantic

from mmpt.tokenizers.image.renderers import Renderer

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from mmpt.tokenizers.image.tokenizer import ImageTokenizer


class Own(Renderer):
    """By the decoder that was trained with the codes, to pixels of the tokenizer's own side (own: SEED, Ge et al. 2023,
    arXiv:2307.08041, leaves all drawing to a published diffusion model)."""

    guidance: float | None = pydantic.Field(default=None, ge=0)
    """Classifier-free guidance of the decoder's flow instead of `decoder.flow.guidance`."""

    def build(self, tokenizer: "ImageTokenizer") -> "OwnRenderer":
        return OwnRenderer(tokenizer, self.guidance)


class OwnRenderer:
    """`ImageTokenizer.decode` with a guidance of its own."""

    def __init__(self, tokenizer: "ImageTokenizer", guidance: float | None):
        self._tokenizer, self._guidance = tokenizer, guidance

    def render(self, codes: "np.ndarray", first: int | None = None, seed: int = 0) -> "Sequence[Image.Image]":
        return self._tokenizer.decode(codes, first, seed, self._guidance)
