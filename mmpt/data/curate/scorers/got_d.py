"""How much more of a text would move the pool towards what is wanted."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
import pydantic

from mmpt.data.curate.scorers import DocumentSet, Fitted, TargetScorer, text_of
from mmpt.data.curate.scorers._transport import costs, potential, potential_of_target
from mmpt.document import Document
from mmpt.errors import ConfigError


class GotD(TargetScorer):
    """Minus the gradient of the optimal transport distance from pool to target by a document's mass: Kang et al. 2024, "Get more
    for less" (arXiv:2405.02774). Points are embeddings of texts; Sinkhorn's potential is found on samples and holds
    for any document, so that a pool of any size is scored."""

    carries: ClassVar[tuple[str, ...]] = ("Get more for less (GOT-D)",)

    holds_model: ClassVar = True
    model: str
    """Folder or Hugging Face name of an encoder of transformers; a text's embedding is the mean of its last states, of length
    1."""
    max_tokens: int = pydantic.Field(default=256, ge=1)
    """Tokens of a text that are looked at."""
    documents: pydantic.PositiveInt = 2048
    """Documents at most of the pool, and of the target, between which the transport is found, evenly from the whole."""
    regularisation: float = pydantic.Field(default=0.01, gt=0)
    """Of the transport, as a share of the mean cost."""

    def reads(self) -> tuple[str, ...]:
        return (self.target, self.model)

    def fit(self, pool: DocumentSet) -> dict[str, np.ndarray]:
        there, wanted = self._sample(pool), self._sample(DocumentSet(self.target))
        if not len(there) or not len(wanted):
            raise ConfigError(f"{self.kind}: no text in the target {self.target} or in the pool")
        return fit_points(there, wanted, self.regularisation)

    def score(self, documents: Sequence[Document], fitted: Fitted) -> np.ndarray:
        texts = [text_of(one) for one in documents]
        found = np.full(len(texts), np.nan, np.float32)
        places = [place for place, text in enumerate(texts) if text]
        if places:
            found[places] = score_points(self._embedded([texts[place] for place in places]), fitted)
        return found

    def _sample(self, documents: DocumentSet) -> np.ndarray:
        return self._embedded([text for one in documents.sample(self.documents) if (text := text_of(one))])

    def _embedded(self, texts: Iterable[str]) -> np.ndarray:
        from mmpt.data.curate.scorers._embeddings import embeddings

        return embeddings(self.model, list(texts), self.max_tokens, self.kind)


def fit_points(pool: np.ndarray, target: np.ndarray, regularisation: float) -> dict[str, np.ndarray]:
    """What `score_points` needs, of float [n, D] and [m, D]."""
    epsilon = regularisation * float(costs(pool, target).mean())
    g = potential_of_target(pool, target, epsilon)
    mean = potential(pool, target, g, epsilon).mean()
    return {"target": target, "g": g, "epsilon": np.array([epsilon]), "mean": np.array([mean])}


def score_points(points: np.ndarray, fitted: Fitted) -> np.ndarray:
    """float64 [n]: minus the gradient, less its mean over the pool, since mass that one point gets the others lose."""
    epsilon = float(fitted["epsilon"][0])
    return fitted["mean"][0] - potential(points, fitted["target"], fitted["g"], epsilon)
