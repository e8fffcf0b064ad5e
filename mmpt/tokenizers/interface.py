"""What any speech and any image tokenizer gives: those trained here, and published ones."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from PIL import Image

from mmpt.tokenizers.figures import ImageFigures, SpeechFigures
from mmpt.tokenizers.image.renderers import Renderer


class SoundStream(Protocol):
    """Codes in, sound out; all samples together are the sound of all codes."""

    @property
    def silent(self) -> int:
        """How many codes more, at least, give no sound yet."""
        ...

    def push(self, codes: np.ndarray) -> np.ndarray:
        """Samples float32 [n] (n may be 0) that have become final with `codes`, int64 [any number]."""
        ...

    def finish(self) -> np.ndarray:
        """The samples that were still open, float32 [n]."""
        ...


class AnySpeechTokenizer(Protocol):
    """Speech ↔ codes."""

    @property
    def sample_rate(self) -> int:
        """Hz of the sound that it takes."""
        ...

    @property
    def sound_rate(self) -> int:
        """Hz of the sound that it gives."""
        ...

    @property
    def figures(self) -> SpeechFigures:
        """How many codes, and how often."""
        ...

    @property
    def speaks_in_blocks(self) -> bool:
        """Whether `speaking` gives sound long before the end."""
        ...

    def encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Codes int64 [n] of each waveform, float32 [samples]. Raises `DataError` naming one that is no sound."""
        ...

    def decode(self, codes: Sequence[np.ndarray], voice: np.ndarray | None = None) -> list[np.ndarray]:
        """A waveform, float32 [samples], of each code sequence, in `voice` where a voice can be chosen. Raises `DataError` on
        what are no codes, and where the tokenizer only encodes."""
        ...

    def speaking(self, voice: np.ndarray | None = None) -> AbstractContextManager[SoundStream]:
        """A stream of codes to sound."""
        ...

    def voice(self, samples: np.ndarray) -> np.ndarray:
        """The voice of a waveform, to be given to `decode`. Raises `DataError` where none can be chosen."""
        ...

    def to(self, device: Any) -> Any:
        """Move it."""
        ...


class AnyImageTokenizer(Protocol):
    """Pictures ↔ codes."""

    @property
    def figures(self) -> ImageFigures:
        """How many codes, and how many for a picture."""
        ...

    def encode(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Codes int64 [n, codes_per_image] of images of any size and mode."""
        ...

    def render(self, codes: np.ndarray, first: int | None = None, seed: int = 0) -> Sequence[Image.Image]:
        """An image for each row of `codes` [n, codes_per_image], or of the `first` of them. Raises `DataError` on what are no
        codes, where beginnings cannot be drawn, and where the tokenizer only encodes."""
        ...

    def render_by(self, renderer: Renderer) -> None:
        """Draw by `renderer` from now on. Raises `ConfigError` where it does not fit."""
        ...

    def to(self, device: Any) -> Any:
        """Move it."""
        ...
