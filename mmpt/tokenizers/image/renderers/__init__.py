"""Renderers: the images that codes stand for, drawn for a person to see.

renderer: own
renderer: {kind: unclip, model: stabilityai/stable-diffusion-2-1-unclip-small}
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

import yaml

from mmpt.config import Schema, parse_config
from mmpt.errors import ConfigError
from mmpt.methods import Method

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

    from mmpt.tokenizers.figures import ImageFigures
    from mmpt.tokenizers.image.tokenizer import ImageTokenizer


class ImageRenderer(Protocol):
    """What a `Renderer` makes of a tokenizer."""

    def render(self, codes: "np.ndarray", first: int | None = None, seed: int = 0) -> "Sequence[Image.Image]":
        """An image for each row of `codes` [n, codes_per_image], or of the `first` of them alone; `seed` chooses the noise it is
        drawn from. Raises `DataError` on codes of another shape or range, and where beginnings cannot be drawn from."""
        ...


class Drawn(Protocol):
    """What a renderer asks of an image tokenizer whose codes predict an embedding."""

    @property
    def device(self) -> "torch.device":
        """Where it computes."""
        ...

    @property
    def figures(self) -> "ImageFigures":
        """How many codes a picture has."""
        ...

    @property
    def embedding_width(self) -> int:
        """Values of an embedding; 0 where none is predicted."""
        ...

    def predicted_embedding(self, codes: "np.ndarray") -> "np.ndarray":
        """float32 [n, embedding_width] of `codes` [n, codes_per_image]."""
        ...


class Renderer(Method):
    """What draws images of codes. `build` gives the one of a tokenizer."""

    key: ClassVar[str] = "renderer"
    default_kind: ClassVar[str] = "own"

    @abstractmethod
    def build(self, tokenizer: "ImageTokenizer") -> ImageRenderer:
        """The renderer on the tokenizer's device. Raises `ConfigError` where it cannot be loaded, or draws from what the
        tokenizer was not trained to give."""

    def problems(self, branches: bool) -> list[str]:
        """What of a tokenizer does not fit, with or without SEED's `branches`."""
        return []


RENDERER_HELP = "what draws images, as a tokenizer's `renderer`: own, or {kind: unclip, model: NAME} (default: the tokenizer's)"
"""Of the option of commands that is read by `chosen_renderer`."""


class _Option(Schema):
    renderer: Renderer


def chosen_renderer(text: str | None) -> Renderer | None:
    """The renderer that the value of an option names in YAML; None where it is not given. Raises `ConfigError`."""
    if text is None:
        return None
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise ConfigError(f"--renderer: not valid YAML ({' '.join(str(problem).split())})") from None
    return parse_config({"renderer": value}, _Option, "--renderer").renderer
