"""The mean of models."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmpt.errors import ConfigError
from mmpt.model.merges import Merge

if TYPE_CHECKING:
    from torch import Tensor


class Average(Merge):
    """The weighted mean of the models, Σ wᵢ·θᵢ ÷ Σ wᵢ (model soups, Wortsman et al. 2022, arXiv:2203.05482)."""

    def change(self, vectors: Sequence["Tensor"], weights: Sequence[float]) -> "Tensor":
        """Raises `ConfigError` where the weights do not sum to more than 0."""
        if sum(weights) <= 0:
            raise ConfigError(f"--weights {' '.join(map(str, weights))}: of an average, expected a sum above 0")
        return sum((weight / sum(weights) * vector for vector, weight in zip(vectors, weights, strict=True)), vectors[0] * 0)
