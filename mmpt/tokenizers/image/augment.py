"""What a training keeps of a picture, and what a batch makes of that anew each time."""

import math

import numpy as np
from PIL import Image, ImageEnhance

from mmpt.media import to_rgb
from mmpt.tokenizers.image.augment_config import Aspect, AugmentConfig, CropConfig
from mmpt.tokenizers.image.pixels import picture_bytes

TRIES = 10
"""Draws of a part before the whole is taken, where none of such a shape fits in."""


def kept(picture: Image.Image, side: int, aspect: Aspect, augment: AugmentConfig) -> np.ndarray:
    """uint8 [height, width, 3]: a square of `side`, or where parts are drawn of it the picture at its own shape, no larger than
    its smallest part needs to be."""
    if augment.crop is None:
        return picture_bytes(picture, side, aspect)
    largest = math.ceil(side / math.sqrt(augment.crop.least))
    if aspect == "pad":  # where pictures are seen whole in a square, parts are those of that square
        return picture_bytes(picture, min(largest, max(picture.size)), aspect)
    whole = to_rgb(picture)
    factor = largest / math.sqrt(whole.width * whole.height)
    if factor < 1:
        whole = whole.resize(tuple(max(1, round(factor * one)) for one in whole.size), Image.Resampling.BICUBIC)
    return np.asarray(whole)


def varied(pixels: np.ndarray, side: int, config: AugmentConfig, random: np.random.Generator) -> np.ndarray:
    """uint8 [side, side, 3] of what was `kept`, by the draws of `random`."""
    if config.crop:
        box = part(pixels.shape[1], pixels.shape[0], config.crop, random)
        pixels = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC, box))
    if config.color:
        pixels = _colored(pixels, config.color, random)
    if shift := config.shift:
        x, y = random.integers(0, 2 * shift + 1, 2)
        padded = np.pad(pixels, ((shift, shift), (shift, shift), (0, 0)), mode="edge")
        pixels = padded[y : y + side, x : x + side]
    return pixels[:, ::-1] if config.flip and random.random() < 0.5 else pixels


def part(width: int, height: int, config: CropConfig, random: np.random.Generator) -> tuple[int, int, int, int]:
    """(Left, top, right, bottom) of a random part of a picture of `width` × `height` pixels: its area uniform in the share of the
    whole, its shape in the logarithm of width ÷ height. The whole where none fits in ten times."""
    bound = math.log(config.ratio)
    for _ in range(TRIES):
        area = width * height * random.uniform(config.least, 1)
        shape = math.exp(random.uniform(-bound, bound))
        wide, high = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < wide <= width and 0 < high <= height:
            left, top = int(random.integers(0, width - wide + 1)), int(random.integers(0, height - high + 1))
            return left, top, left + wide, top + high
    return 0, 0, width, height


def _colored(pixels: np.ndarray, most: float, random: np.random.Generator) -> np.ndarray:
    picture = Image.fromarray(pixels)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = change(picture).enhance(random.uniform(1 - most, 1 + most))
    return np.asarray(picture)
