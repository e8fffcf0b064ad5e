"""Training batches of pictures and captions as a pure function of the step."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image

from mmpt.errors import DataError
from mmpt.media import to_rgb
from mmpt.tokenizers.image.captions import caption_ids
from mmpt.tokenizers.image.config import ImageTokenizerConfig


class ImageExample(NamedTuple):
    """A picture, the text that goes with it, and perhaps the codes that a language model gave for it."""

    picture: Image.Image
    text: str
    generated: Sequence[int] | None = None


class ImageBatch(NamedTuple):
    """`pixels` float32 [B, 3, side, side] in −1 … 1; `captions` int64 [B, L], 0 where a caption is shorter; `generated` int64
    [B, queries], −1 where a picture has none."""

    pixels: torch.Tensor
    captions: torch.Tensor
    generated: torch.Tensor

    def to(self, device: torch.device) -> "ImageBatch":
        return ImageBatch(*(part.to(device) for part in self))


class BatchPlan(Protocol):
    """What `image_batches` reads of the training's configuration."""

    @property
    def batch_size(self) -> int: ...

    @property
    def seed(self) -> int: ...


def picture_bytes(picture: Image.Image, side: int) -> np.ndarray:
    """RGB uint8 [side, side, 3], squashed to a square as SEED does: nothing is cut off."""
    return np.asarray(to_rgb(picture).resize((side, side), Image.Resampling.BICUBIC))


def to_pixels(pictures: np.ndarray) -> torch.Tensor:
    """uint8 [B, side, side, 3] → float32 [B, 3, side, side] in −1 … 1."""
    return torch.from_numpy(pictures.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)


def image_batches(
    examples: Sequence[ImageExample], config: ImageTokenizerConfig, fit: BatchPlan
) -> Callable[[int, int, int], ImageBatch]:
    """(step, rank, ranks) → that rank's share of the step's batch: epoch after epoch in a fresh order each, changed as
    `config.augment` says, all from `fit.seed` and the step.

    Pictures are squashed once and kept as uint8. Raises `DataError` where there is no example, or generated codes do not fit.
    """
    if not examples:
        raise DataError("no pictures to train the image tokenizer on")
    pictures = np.stack([picture_bytes(example.picture, config.side) for example in examples])
    rows = [caption_ids(example.text, config.captions) for example in examples]
    captions = np.zeros((len(rows), max(1, max(map(len, rows)))), dtype=np.int64)
    for row, ids in zip(captions, rows, strict=True):
        row[: len(ids)] = ids
    generated = np.stack([_codes_or_none(example, config) for example in examples])
    orders: dict[int, np.ndarray] = {}

    def order(epoch: int) -> np.ndarray:
        if epoch not in orders:
            orders.clear()
            orders[epoch] = np.random.default_rng((fit.seed, epoch)).permutation(len(examples))
        return orders[epoch]

    def batch(step: int, rank: int = 0, ranks: int = 1) -> ImageBatch:
        share = fit.batch_size // ranks
        places = step * fit.batch_size + np.arange(rank * share, (rank + 1) * share)
        chosen = np.array([order(int(place) // len(examples))[int(place) % len(examples)] for place in places])
        draws = [np.random.default_rng((fit.seed, int(place), 1)) for place in places]
        changed = np.stack([_augment(pictures[i], config, random) for i, random in zip(chosen, draws, strict=True)])
        return ImageBatch(to_pixels(changed), torch.from_numpy(captions[chosen]), torch.from_numpy(generated[chosen]))

    return batch


def _codes_or_none(example: ImageExample, config: ImageTokenizerConfig) -> np.ndarray:
    queries, codes = config.qformer.queries, config.quantizer.codes
    if example.generated is None:
        return np.full(queries, -1, dtype=np.int64)
    found = np.array(example.generated, dtype=np.int64)
    if found.shape != (queries,) or found.min() < 0 or found.max() >= codes:
        raise DataError(f"generated codes {found.tolist()} of {example.text!r}: expected {queries} from 0 to {codes - 1}")
    return found


def _augment(picture: np.ndarray, config: ImageTokenizerConfig, random: np.random.Generator) -> np.ndarray:
    shift = config.augment.shift
    if shift:
        x, y = random.integers(0, 2 * shift + 1, 2)
        padded = np.pad(picture, ((shift, shift), (shift, shift), (0, 0)), mode="edge")
        picture = padded[y : y + config.side, x : x + config.side]
    return picture[:, ::-1] if config.augment.flip and random.random() < 0.5 else picture
