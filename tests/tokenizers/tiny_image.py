"""An image tokenizer at toy size, and pictures for it."""

import numpy as np
import torch
from examples_in_memory import image_batches
from PIL import Image

from mmpt.config import parse_config
from mmpt.tokenizers.image.batches import ImageExample
from mmpt.tokenizers.image.config import ImageTokenizerConfig
from mmpt.tokenizers.image.stages import JointConfig, JointStage
from mmpt.tokenizers.image.tokenizer import ImageTokenizer
from mmpt.tokenizers.terms import Term

EMA = {"kind": "ema", "codes": 16, "dim": 6, "normalize": True}
FSQ = {"kind": "fsq", "levels": [4, 3, 2]}


def config(quantizer: dict = EMA, **changes) -> ImageTokenizerConfig:
    content = {
        "side": 16,
        "tower": {"patch": 4, "width": 32, "depth": 1, "heads": 4},
        "qformer": {"queries": 5, "width": 32, "depth": 2, "heads": 4},
        "quantizer": quantizer,
        "decoder": {"patch": 4, "width": 32, "depth": 1, "heads": 4},
        "captions": {"words": 6, "buckets": 64, "width": 16, "depth": 1, "heads": 2, "dim": 8},
        **changes,
    }
    return parse_config(content, ImageTokenizerConfig, "test")


class Plan:
    batch_size, seed = 6, 3


def pictures(count: int, seed: int = 0) -> list[Image.Image]:
    """Pictures of several sizes and modes, each of smooth random colours."""
    random = np.random.default_rng(seed)
    found = [Image.fromarray(random.integers(0, 255, (3, 4, 3), dtype=np.uint8)).resize((20 + i, 17)) for i in range(count)]
    return [picture.convert("L") if i % 4 == 3 else picture for i, picture in enumerate(found)]


def tokenizer(quantizer: dict = EMA, steps: int = 2, **changes) -> ImageTokenizer:
    """A tokenizer whose codebook has been started on pictures."""
    torch.manual_seed(0)
    model = ImageTokenizer(config(quantizer, **changes))
    batches = image_batches([ImageExample(p, f"picture {i % 7}") for i, p in enumerate(pictures(24))], model.config, Plan())
    joint = JointStage(model, JointConfig())
    for step in range(steps):
        joint.loss(batches(step), 0.9)
    return model.eval()


def loss_of(terms: dict[str, Term]) -> torch.Tensor:
    return sum(term.weight * term.total / term.count.clamp_min(1) for term in terms.values() if term.weight)
