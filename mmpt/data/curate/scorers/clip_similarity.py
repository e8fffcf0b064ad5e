"""How well pictures and their texts go together."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import pydantic

from mmpt.data.curate.scorers import Fitted, Scorer
from mmpt.document import Document, Image, Text


class ClipSimilarity(Scorer):
    """Cosine of a picture and its alternative text, else the text nearest to it, under an open_clip model: Fang et al. 2023,
    "Data Filtering Networks" (arXiv:2309.17425), which keeps the highest 15 to 20 % under a CLIP trained for it, and Schuhmann et
    al. 2022, "LAION-5B" (arXiv:2210.08402), from 0.28 on under OpenAI's. A document without such a pair has no score."""

    carries: ClassVar[tuple[str, ...]] = ("Data Filtering Networks (DFN)",)

    holds_model: ClassVar = True
    model: str = "ViT-B-32"
    """open_clip's name of the model, such as hf-hub:apple/DFN2B-CLIP-ViT-B-16."""
    pretrained: str | None = "laion2b_s34b_b79k"
    """One of open_clip's tags, or the path of a checkpoint; null for a model of the hub."""
    of: Literal["worst", "mean", "best"] = "mean"
    """Which similarity counts where a document has several pictures."""

    @pydantic.model_validator(mode="after")
    def _trained(self) -> "ClipSimilarity":
        if self.pretrained is None and not self.model.startswith("hf-hub:"):
            raise ValueError("pretrained: expected a tag or a checkpoint, or a model hf-hub:OWNER/NAME")
        return self

    def reads(self) -> tuple[str, ...]:
        return (self.model, *([self.pretrained] if self.pretrained else []))

    def score(self, documents: Sequence[Document], fitted: Fitted) -> np.ndarray:
        from mmpt.data.curate.scorers._clip import cosines

        pairs = [(owner, *pair) for owner, one in enumerate(documents) for pair in pairs_of(one)]
        found = cosines(self.model, self.pretrained, [(image, text) for _, image, text in pairs])
        owners = np.array([owner for owner, _, _ in pairs], dtype=np.int64)
        take = {"worst": np.min, "mean": np.mean, "best": np.max}[self.of]
        own = [found[owners == owner] for owner in range(len(documents))]
        return np.array([take(one) if len(one) else np.nan for one in own], dtype=np.float32)


def pairs_of(document: Document) -> list[tuple[Image, str]]:
    """Each picture with its alternative text, else the nearest text part, of two as near the following; none without a text."""
    texts = {place: one.text for place, one in enumerate(document.parts) if isinstance(one, Text) and one.text.strip()}
    pairs = []
    for place, part in enumerate(document.parts):
        if isinstance(part, Image):
            nearest = min(texts, key=lambda other, here=place: (abs(other - here), other < here), default=None)
            text = part.alt if part.alt.strip() else "" if nearest is None else texts[nearest]
            pairs += [(part, text)] if text else []
    return pairs
