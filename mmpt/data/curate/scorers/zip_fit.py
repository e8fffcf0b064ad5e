"""How much a text and those that are wanted say alike, by what a compressor saves on both together."""

import zlib
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pydantic

from mmpt.data.curate.scorers import DocumentSet, Fitted, TargetScorer, text_of
from mmpt.document import Document
from mmpt.errors import ConfigError


class ZipFit(TargetScorer):
    """Alignment with the target: 1 less the normalised compression distance, mean over examples of the target (Obbad et al. 2024,
    "ZIP-FIT", arXiv:2410.18194), by zlib. No model."""

    carries: ClassVar[tuple[str, ...]] = ("ZIP-FIT",)

    examples: pydantic.PositiveInt = 32
    """Documents of the target, evenly from the whole, with which each text is compared."""
    max_bytes: int = pydantic.Field(default=8192, ge=1, le=16384)
    """Bytes of a text that are looked at; zlib looks back 32 KiB, so two texts fit."""

    def fit(self, pool: DocumentSet) -> dict[str, np.ndarray]:
        texts = [found for one in DocumentSet(self.target).sample(self.examples) if (found := self._bytes(one))]
        if not texts:
            raise ConfigError(f"{self.kind}: no text in the target {self.target}")
        return {"texts": np.frombuffer(b"".join(texts), np.uint8), "ends": np.cumsum([len(one) for one in texts])}

    def score(self, documents: Sequence[Document], fitted: Fitted) -> np.ndarray:
        pieces = np.split(fitted["texts"], fitted["ends"][:-1])
        examples = [(one.tobytes(), compressed(one.tobytes())) for one in pieces]
        found = np.full(len(documents), np.nan, np.float32)
        for place, document in enumerate(documents):
            if text := self._bytes(document):
                size = compressed(text)
                found[place] = 1 - np.mean([distance(text, size, *example) for example in examples])
        return found

    def _bytes(self, document: Document) -> bytes:
        return text_of(document).encode("utf-8", "replace")[: self.max_bytes]


def compressed(data: bytes) -> int:
    """Bytes of `data` under zlib."""
    return len(zlib.compress(data, 9))


def distance(one: bytes, size: int, other: bytes, other_size: int) -> float:
    """The normalised compression distance (Cilibrasi and Vitányi 2005): near 0 of equal texts, near 1 of such as share nothing.
    `size` and `other_size` are those of each alone."""
    return (compressed(one + other) - min(size, other_size)) / max(size, other_size)
