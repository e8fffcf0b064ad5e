"""Sums of what models have learned."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from mmpt.model.merges import Merge

if TYPE_CHECKING:
    from torch import Tensor


class TaskArithmetic(Merge):
    """What each model has learned added to the base, θ + Σ wᵢ·(θᵢ − θ) (Ilharco et al. 2022, arXiv:2212.04089)."""

    carries: ClassVar[tuple[str, ...]] = (
        "Instruction-tuned LLM by merging (finance)",
        "Balancing continuous pre-training and instruction tuning",
    )

    def change(self, vectors: Sequence["Tensor"], weights: Sequence[float]) -> "Tensor":
        return sum((weight * vector for vector, weight in zip(vectors, weights, strict=True)), vectors[0] * 0)
