"""Pictures from predicted embeddings by a published unCLIP model, as SEED draws them (Stable Diffusion 2.1 unCLIP: embeddings of
open_clip's ViT-H-14, 1024 values)."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mmpt.errors import ConfigError, DataError


class UnclipDecoder:
    """A `StableUnCLIPImg2ImgPipeline` of diffusers, from a folder or Hugging Face name; safetensors alone are read."""

    def __init__(self, name: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32):
        """Raises `ConfigError` where diffusers is missing or the pipeline cannot be loaded."""
        try:
            from diffusers import StableUnCLIPImg2ImgPipeline
        except ImportError:
            raise ConfigError('an unCLIP model needs diffusers: pip install "mmpt[unclip]"') from None
        try:
            self.pipeline = StableUnCLIPImg2ImgPipeline.from_pretrained(str(name), torch_dtype=dtype, use_safetensors=True)
        except (OSError, ValueError, TypeError, RuntimeError) as problem:
            raise ConfigError(f"{name}: no unCLIP pipeline can be loaded ({problem})") from None
        self.pipeline.to(device)
        self.pipeline.set_progress_bar_config(disable=True)

    @property
    def width(self) -> int:
        """Values of an embedding."""
        return self.pipeline.image_encoder.config.projection_dim

    def draw(self, embeddings: np.ndarray, seed: int = 0, steps: int = 20, guidance: float = 10.0) -> list[Image.Image]:
        """A picture for each of `embeddings` (float32 [n, width], as `ImageTokenizer.predicted_embedding` gives them).

        Each is drawn from the same noise, a function of `seed`, without added noise on the embedding: SEED's settings. Raises
        `DataError` on embeddings of another shape.
        """
        embeddings = np.asarray(embeddings, dtype=np.float32)
        if embeddings.ndim != 2 or embeddings.shape[1] != self.width or not np.isfinite(embeddings).all():
            raise DataError(f"embeddings: expected finite [pictures, {self.width}], found {list(embeddings.shape)}")
        pictures = []
        for row in torch.from_numpy(embeddings).to(self.pipeline.device, self.pipeline.unet.dtype):
            drawn = self.pipeline(
                prompt="",
                image_embeds=row[None],
                num_inference_steps=steps,
                guidance_scale=guidance,
                noise_level=0,
                generator=torch.Generator().manual_seed(seed),
            )
            pictures.append(drawn.images[0])
        return pictures
