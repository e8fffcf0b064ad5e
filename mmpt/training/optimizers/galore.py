"""AdamW in a few directions of each matrix's gradient."""

from typing import TYPE_CHECKING, ClassVar

import pydantic

from mmpt.training.optimizers import Shape, WithMoments

if TYPE_CHECKING:
    import torch
    from torch import nn


class GaLore(WithMoments):
    """AdamW whose moments of the matrices of hidden layers live in the `rank` strongest directions of their gradient, found anew
    every `every` updates, AdamW for the rest (Zhao et al. 2024, arXiv:2403.03507). A matrix of m ≥ n keeps m · 2 rank + n · rank
    numbers in place of m · 2n. Rates are higher than AdamW's, the paper's ten times as high."""

    whole_matrices: ClassVar[bool] = True
    carries: ClassVar[tuple[str, ...]] = ("GaLore",)

    rank: int = pydantic.Field(default=128, ge=1)
    """Directions of each matrix; of a smaller one all."""
    every: int = pydantic.Field(default=200, ge=1)
    """Updates after which the directions are found anew, by a singular value decomposition."""
    scale: float = pydantic.Field(default=0.25, gt=0)
    """Factor on the learning rate of these matrices (the paper's α)."""

    def build(self, groups: list[dict]) -> "torch.optim.Optimizer":
        from mmpt.training.optimizers._galore import GaLoreAdamW

        return GaLoreAdamW(
            groups, self.rank, self.every, self.scale, lr=self.learning_rate, betas=self.betas, eps=1e-8, fused=True
        )

    def apart(self, model: "nn.Module") -> set[int]:
        from mmpt.training.optimizers._galore import galore_parameters

        return galore_parameters(model)

    def state(self, shape: Shape, apart: bool) -> dict[str, tuple[int, ...]]:
        if not apart:
            return super().state(shape, apart)
        short = min(shape)
        rank = min(self.rank, short)
        moments = (shape[0], rank) if shape[0] >= shape[1] else (rank, shape[1])
        return {"exp_avg": moments, "exp_avg_sq": moments, "basis": (short, rank)}
