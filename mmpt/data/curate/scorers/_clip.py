"""Pictures and texts under a CLIP of open_clip, in batches."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import open_clip
import torch

from mmpt.document import Image
from mmpt.errors import ConfigError
from mmpt.media import decode_image

BATCH = 64


def cosines(name: str, pretrained: str | None, pairs: Sequence[tuple[Image, str]]) -> np.ndarray:
    """float32 [pairs]. Raises `DataError` where a picture cannot be decoded, `ConfigError` where there is no such model."""
    model, transform, tokenizer, device = _clip(name, pretrained)
    found = [np.zeros(0, np.float32)]
    for chosen in (pairs[start : start + BATCH] for start in range(0, len(pairs), BATCH)):
        pictures = torch.stack([transform(decode_image(image.data)) for image, _ in chosen]).to(device)
        with torch.inference_mode():
            seen = model.encode_image(pictures, normalize=True)
            read = model.encode_text(tokenizer([text for _, text in chosen]).to(device), normalize=True)
        found.append((seen * read).sum(dim=1).float().cpu().numpy())
    return np.concatenate(found)


@lru_cache(maxsize=2)
def _clip(name: str, pretrained: str | None) -> tuple[Any, Any, Any, str]:
    """(model, transform of pictures, tokenizer, device), loaded once in each process."""
    try:
        model, _, transform = open_clip.create_model_and_transforms(name, pretrained=pretrained)
    except (RuntimeError, OSError) as problem:
        raise ConfigError(f"clip_similarity: {name} {pretrained} cannot be loaded ({problem})") from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.eval().to(device), transform, open_clip.get_tokenizer(name), device
