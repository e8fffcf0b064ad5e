"""Training batches of pictures and captions as a pure function of the step."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image

from mmpt.errors import DataError
from mmpt.tokenizers.image.augment import kept, varied
from mmpt.tokenizers.image.config import ImageTokenizerConfig
from mmpt.tokenizers.image.pixels import to_pixels


class ImageExample(NamedTuple):
    """A picture, the text that goes with it, and perhaps the codes that a language model gave for it."""

    picture: Image.Image
    text: str
    generated: Sequence[int] | None = None


class Picture(NamedTuple):
    """What a batch takes of an example: `pixels` uint8 [height, width, 3], as `augment.kept` has it; `caption` int32 [words];
    `generated` int [queries], −1 where there are no codes of a language model, or None."""

    pixels: np.ndarray
    caption: np.ndarray
    generated: np.ndarray | None = None


class ImageBatch(NamedTuple):
    """`pixels` float32 [B, 3, side, side] in −1 … 1; `captions` int64 [B, L], 0 where a caption is shorter; `generated` int64
    [B, queries], −1 where a picture has none."""

    pixels: torch.Tensor
    captions: torch.Tensor
    generated: torch.Tensor

    def to(self, device: torch.device) -> "ImageBatch":
        return ImageBatch(*(part.to(device) for part in self))


class BatchPlan(Protocol):
    """What `picture_batches` reads of the training's configuration."""

    @property
    def batch_size(self) -> int: ...

    @property
    def seed(self) -> int: ...


def prepared(example: ImageExample, config: ImageTokenizerConfig) -> Picture:
    """What batches take of `example`. Raises `DataError` where its generated codes do not fit."""
    generated = None if example.generated is None else checked_codes(example.generated, repr(example.text), config)
    caption = np.array(config.captions.encoder.ids(example.text, config.captions), dtype=np.int32)
    return Picture(kept(example.picture, config.side, config.aspect, config.augment), caption, generated)


def checked_codes(codes: Sequence[int], name: str, config: ImageTokenizerConfig) -> np.ndarray:
    """int64 [queries]. Raises `DataError`, saying that they are of `name`, where they are no codes of such a tokenizer."""
    count, size = config.figures.codes_per_image, config.quantizer.codes
    found = np.array(codes, dtype=np.int64)
    if found.shape != (count,) or found.min() < 0 or found.max() >= size:
        raise DataError(f"generated codes {found.tolist()} of {name}: expected {count} from 0 to {size - 1}")
    return found


def picture_batches(
    pictures: Sequence[Picture], words: int, config: ImageTokenizerConfig, fit: BatchPlan
) -> Callable[[int, int, int], ImageBatch]:
    """(step, rank, ranks) → that rank's share of the step's batch: epoch after epoch in a fresh order each, changed as
    `config.augment` says, all from `fit.seed` and the step. `words`: ids of the longest caption.

    A picture is asked for when it is in the batch, from several threads where batches are. Raises `DataError` without any.
    """
    if not len(pictures):
        raise DataError("no pictures to train the image tokenizer on")

    @lru_cache(maxsize=2)  # a batch may lie on both sides of an epoch's end
    def order(epoch: int) -> np.ndarray:
        return np.random.default_rng((fit.seed, epoch)).permutation(len(pictures))

    def batch(step: int, rank: int = 0, ranks: int = 1) -> ImageBatch:
        share = fit.batch_size // ranks
        # Numbered through all epochs: each place of the endless row of pictures has random numbers of its own, whatever the rank.
        places = (step * fit.batch_size + np.arange(rank * share, (rank + 1) * share)).tolist()
        chosen = [pictures[int(order(place // len(pictures))[place % len(pictures)])] for place in places]
        draws = [np.random.default_rng((fit.seed, place, 1)) for place in places]
        pairs = zip(chosen, draws, strict=True)
        changed = np.stack([varied(one.pixels, config.side, config.augment, random) for one, random in pairs])
        # As wide as the longest caption of all, not of the batch: shapes that change make compiled kernels anew.
        captions = np.zeros((share, max(1, words)), dtype=np.int64)
        generated = np.full((share, config.figures.codes_per_image), -1, dtype=np.int64)
        for row, one in enumerate(chosen):
            captions[row, : len(one.caption)] = one.caption
            if one.generated is not None:
                generated[row] = one.generated
        return ImageBatch(to_pixels(changed), torch.from_numpy(captions), torch.from_numpy(generated))

    return batch
