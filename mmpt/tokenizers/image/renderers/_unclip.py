"""The renderer of `Unclip`."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

from mmpt.errors import ConfigError, DataError
from mmpt.tokenizers.image.renderers import Drawn
from mmpt.tokenizers.image.renderers.unclip import Unclip


class UnclipDecoder:
    """A `StableUnCLIPImg2ImgPipeline` of diffusers, on a device."""

    def __init__(self, config: Unclip, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32):
        """Raises `ConfigError` where diffusers is missing or the pipeline cannot be loaded."""
        try:
            from diffusers import StableUnCLIPImg2ImgPipeline  # pyright: ignore  # an optional extra, imported lazily there too
        except ImportError:
            raise ConfigError('an unCLIP model needs diffusers: pip install "mmpt[unclip]"') from None
        try:
            pipeline = StableUnCLIPImg2ImgPipeline.from_pretrained(config.model, torch_dtype=dtype, use_safetensors=True)
        except (OSError, ValueError, TypeError, RuntimeError) as problem:
            raise ConfigError(f"{config.model}: no unCLIP pipeline can be loaded ({problem})") from None
        self.config = config
        self.pipeline = cast(Any, pipeline)  # diffusers hands out its parts as nothing in particular
        self.pipeline.to(device)
        self.pipeline.set_progress_bar_config(disable=True)

    @property
    def width(self) -> int:
        """Values of an embedding."""
        return self.pipeline.image_encoder.config.projection_dim

    def draw(self, embeddings: np.ndarray, seed: int = 0) -> list[Image.Image]:
        """An image for each of `embeddings` (float32 [n, width], as `ImageTokenizer.predicted_embedding` gives them).

        Each is drawn from the same noise, a function of `seed`, without added noise on the embedding: SEED's settings. Raises
        `DataError` on embeddings of another shape.
        """
        embeddings = np.asarray(embeddings, dtype=np.float32)
        if embeddings.ndim != 2 or embeddings.shape[1] != self.width or not np.isfinite(embeddings).all():
            raise DataError(f"embeddings: expected finite [images, {self.width}], found {list(embeddings.shape)}")
        images = []
        for row in torch.from_numpy(embeddings).to(self.pipeline.device, self.pipeline.unet.dtype):
            drawn = self.pipeline(
                prompt="",
                image_embeds=row[None],
                num_inference_steps=self.config.steps,
                guidance_scale=self.config.guidance,
                noise_level=0,
                generator=torch.Generator().manual_seed(seed),
            )
            images.append(drawn.images[0])
        return images


class UnclipRenderer:
    """Codes → the embedding that the tokenizer predicts of them → an unCLIP model's image."""

    def __init__(self, config: Unclip, tokenizer: Drawn):
        """Raises `ConfigError` where the pipeline takes embeddings of another size than the tokenizer predicts."""
        device = tokenizer.device
        # Half precision on a GPU, as Stable Diffusion is published for it; a CPU has no fast half-precision convolutions.
        self._decoder = UnclipDecoder(config, device, torch.float16 if device.type == "cuda" else torch.float32)
        self._tokenizer = tokenizer
        if tokenizer.embedding_width != self._decoder.width:
            raise ConfigError(
                f"renderer: {config.model} draws from embeddings of {self._decoder.width} values, this tokenizer predicts "
                + (f"{tokenizer.embedding_width}" if tokenizer.embedding_width else "none: it has no `branches`")
            )

    def render(self, codes: np.ndarray, first: int | None = None, seed: int = 0) -> Sequence[Image.Image]:
        if first not in (None, self._tokenizer.figures.codes_per_image):
            raise DataError("an unCLIP model draws from all codes of an image, not from the first of them alone")
        return self._decoder.draw(self._tokenizer.predicted_embedding(codes), seed)
