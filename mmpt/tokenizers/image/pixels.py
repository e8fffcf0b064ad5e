"""Pictures of any size and mode as square arrays of pixels."""

import numpy as np
import torch
from PIL import Image, ImageOps

from mmpt.media import to_rgb
from mmpt.tokenizers.image.augment_config import Aspect


def picture_bytes(picture: Image.Image, side: int, aspect: Aspect = "squash") -> np.ndarray:
    """RGB uint8 [side, side, 3]: squashed to a square as SEED does, so that nothing is cut off; or the square in the middle; or
    the whole in a white square."""
    whole = to_rgb(picture)
    if aspect == "crop":
        return np.asarray(ImageOps.fit(whole, (side, side), Image.Resampling.BICUBIC))
    if aspect == "pad":
        return np.asarray(ImageOps.pad(whole, (side, side), Image.Resampling.BICUBIC, color="white"))
    return np.asarray(whole.resize((side, side), Image.Resampling.BICUBIC))


def to_pixels(pictures: np.ndarray) -> torch.Tensor:
    """uint8 [B, side, side, 3] → float32 [B, 3, side, side] in −1 … 1."""
    return torch.from_numpy(pictures.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)
