"""What is known of a tokenizer without its weights: how many codes, how often, of what."""

import math
from dataclasses import dataclass
from typing import Any

from mmpt.codebooks import Layout


@dataclass(frozen=True)
class SpeechFigures:
    """`codes` ids of all `codebooks` together, `rate` codes a second of sound of `sample_rate` Hz."""

    codes: int
    rate: float
    sample_rate: int
    codebooks: int = 1
    layout: Layout = "flatten"

    @property
    def bits(self) -> float:
        """Bits a second."""
        return self.rate * math.log2(self.codes / self.codebooks)

    def in_vocabulary(self) -> dict[str, Any]:
        """The fields of a `Vocabulary` that follow from it."""
        return {
            "speech_codes": self.codes,
            "speech_rate": self.rate,
            "speech_codebooks": self.codebooks,
            "speech_layout": self.layout if self.codebooks > 1 else "flatten",
        }


@dataclass(frozen=True)
class ImageFigures:
    """`codes` ids of all `codebooks` together, `codes_per_image` of them for a picture of `side` × `side` pixels: as many of each
    codebook, those of the first before those of the second."""

    codes: int
    codes_per_image: int
    side: int
    codebooks: int = 1

    @property
    def bits(self) -> float:
        """Bits of a picture."""
        return self.codes_per_image * math.log2(self.codes / self.codebooks)

    def in_vocabulary(self) -> dict[str, Any]:
        """The fields of a `Vocabulary` that follow from it."""
        return {"image_codes": self.codes, "codes_per_image": self.codes_per_image, "image_codebooks": self.codebooks}


Figures = SpeechFigures | ImageFigures
NO_SPEECH: dict[str, Any] = {"speech_codes": 0, "speech_rate": 0.0}
NO_IMAGES: dict[str, Any] = {"image_codes": 0, "codes_per_image": 0}
"""The fields of a `Vocabulary` without such a tokenizer."""
