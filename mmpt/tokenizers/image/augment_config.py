"""Settings of how images become squares, and of how those that are trained on are varied."""

from typing import Literal

import pydantic

from mmpt.config import Schema

Aspect = Literal["squash", "crop", "pad"]


class CropConfig(Schema):
    """A random part of each image in place of the whole, at another shape (Szegedy et al. 2014, arXiv:1409.4842, section 6;
    SEED's training takes half of the image at least)."""

    least: float = pydantic.Field(default=0.5, gt=0, le=1)
    """Least share of the image's area."""
    ratio: float = pydantic.Field(default=4 / 3, ge=1)
    """Most that the part's width ÷ height, or height ÷ width, is."""


class AugmentConfig(Schema):
    """Changes to a training image, drawn anew each time that it is in a batch."""

    crop: CropConfig | None = None
    """Random parts; by default the whole image."""
    color: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Most by which brightness, contrast and saturation are scaled up or down, each by a factor of its own."""
    shift: int = pydantic.Field(default=0, ge=0)
    """Largest move to either side in pixels; borders repeat."""
    flip: bool = False
    """Mirrored half of the time; never where captions tell left from right."""
