"""What published image tokenizers share: pixels in, codes out, and the way back."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from mmpt.errors import CheckpointError, ConfigError, DataError
from mmpt.storage import read_json
from mmpt.tokenizers.figures import ImageFigures
from mmpt.tokenizers.image.pixels import picture_bytes
from mmpt.tokenizers.image.renderers import Renderer

_TOGETHER = 8  # images


class Scale(NamedTuple):
    """A model's pixels are (byte · factor − mean) ÷ deviation, each channel with its own."""

    factor: float
    mean: Sequence[float]
    deviation: Sequence[float]


class PictureCodec(nn.Module):
    """Pictures ↔ codes by a published model; the same codes as its own library gives for pictures of `side` × `side` pixels.
    Others are squashed to that: nothing is cut off."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, figures: ImageFigures, scale: Scale):
        super().__init__()
        self.figures, self.factor = figures, scale.factor
        self.register_buffer("mean", torch.tensor(scale.mean)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(scale.deviation)[:, None, None], persistent=False)

    @abstractmethod
    def codes_of(self, pixels: torch.Tensor) -> torch.Tensor:
        """Codes int64 [B, codes_per_image] of `pixels` float32 [B, 3, side, side], scaled as the model takes them."""

    @abstractmethod
    def pixels_of(self, codes: torch.Tensor) -> torch.Tensor:
        """Pixels [B, 3, side, side] in the same scale of `codes`. Raises `DataError` where the model only encodes."""

    def encode(self, images: Sequence[Image.Image]) -> np.ndarray:
        found = [np.zeros((0, self.figures.codes_per_image), dtype=np.int64)]
        with torch.inference_mode():
            for start in range(0, len(images), _TOGETHER):
                squashed = np.stack([picture_bytes(one, self.figures.side) for one in images[start : start + _TOGETHER]])
                pixels = torch.from_numpy(squashed).permute(0, 3, 1, 2).to(self.mean.device).float()
                found.append(self.codes_of((pixels * self.factor - self.mean) / self.deviation).cpu().numpy())
        return np.concatenate(found)

    def render(self, codes: np.ndarray, first: int | None = None, seed: int = 0) -> Sequence[Image.Image]:
        if first not in (None, self.figures.codes_per_image):
            raise DataError("this tokenizer draws from all codes of an image, not from the first of them alone")
        rows = self.checked_codes(codes)
        found: list[Image.Image] = []
        with torch.inference_mode():
            for start in range(0, len(rows), _TOGETHER):
                drawn = self.pixels_of(rows[start : start + _TOGETHER].to(self.mean.device)).float()
                values = ((drawn * self.deviation + self.mean) / self.factor).round().clamp(0, 255).to(torch.uint8)
                found += [Image.fromarray(value) for value in values.permute(0, 2, 3, 1).cpu().numpy()]
        return found

    def render_by(self, renderer: Renderer) -> None:
        raise ConfigError(f"renderer: {renderer.kind} draws for tokenizers trained here; this published one draws by itself")

    def checked_codes(self, codes: np.ndarray) -> torch.Tensor:
        """int64 [n, codes_per_image]. Raises `DataError` on codes of another shape or range."""
        codes, expected = np.asarray(codes), self.figures
        if codes.ndim != 2 or codes.shape[1] != expected.codes_per_image or not np.issubdtype(codes.dtype, np.integer):
            raise DataError(f"codes are {codes.dtype} {list(codes.shape)}, expected int [images, {expected.codes_per_image}]")
        if codes.size and (codes.min() < 0 or codes.max() >= expected.codes):
            raise DataError(f"codes run from {codes.min()} to {codes.max()}, expected 0 … {expected.codes - 1}")
        return torch.from_numpy(codes.astype(np.int64))


def scale_of(folder: Path, default: Scale) -> Scale:
    """What the checkpoint in `folder` says of its pixels, else `default`."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            said = read_json(folder / name, CheckpointError)
            said = said.get("image_processor", said)
            if "image_mean" in said:
                return Scale(said.get("rescale_factor", default.factor), said["image_mean"], said["image_std"])
    return default
