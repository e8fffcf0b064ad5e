"""An image tokenizer with all that stages train, at toy size, and a batch for it."""

import torch
from torch.nn import functional as F

from mmpt.config import parse_config
from mmpt.tokenizers.image.batches import ImageBatch
from mmpt.tokenizers.image.config import ImageTokenizerConfig
from mmpt.tokenizers.image.tokenizer import ImageTokenizer


def config(**changes) -> ImageTokenizerConfig:
    content = {
        "side": 16,
        "tower": {"patch": 4, "width": 16, "depth": 1, "heads": 2},
        "qformer": {"queries": 5, "width": 16, "depth": 1, "heads": 2},
        "quantizer": {"kind": "ema", "codes": 16, "dim": 6, "normalize": True},
        "branches": {"depth": 1, "reverse_depth": 1},
        "decoder": {"patch": 4, "width": 16, "depth": 0, "heads": 2, "flow": {"dim": 8, "blocks": 1, "steps": 4}},
        "captions": {"words": 6, "buckets": 64, "width": 16, "depth": 1, "heads": 2, "dim": 8},
        **changes,
    }
    return parse_config(content, ImageTokenizerConfig, "test")


def tokenizer(**changes) -> ImageTokenizer:
    torch.manual_seed(0)
    return ImageTokenizer(config(**changes))


def batch(count: int = 8, seed: int = 0) -> ImageBatch:
    draw = torch.Generator().manual_seed(seed)
    pixels = F.interpolate(torch.rand(count, 3, 4, 4, generator=draw) * 2 - 1, 16, mode="bilinear")
    return ImageBatch(pixels, torch.randint(1, 64, (count, 4), generator=draw), torch.full((count, 5), -1))
