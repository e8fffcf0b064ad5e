"""AdamW whose moments are kept in eight bits."""

import math
from typing import TYPE_CHECKING, ClassVar

from mmpt.training.optimizers import Shape, WithMoments

if TYPE_CHECKING:
    import torch
    from torch import nn

BLOCK = 256
LEAST = 4096


class AdamW8bit(WithMoments):
    """AdamW whose two moments of each weight take a byte each, with a scale for each block of 256, by bitsandbytes (Dettmers et
    al. 2021, arXiv:2110.02861); embeddings, and what has fewer than 4,096 numbers, keep AdamW's."""

    whole_matrices: ClassVar[bool] = True
    eight_bits: ClassVar[frozenset[str]] = frozenset({"exp_avg_codes", "exp_avg_sq_codes"})

    def build(self, groups: list[dict]) -> "torch.optim.Optimizer":
        from mmpt.training.optimizers._adamw8bit import EightBitAdamW

        return EightBitAdamW(groups, lr=self.learning_rate, betas=self.betas, eps=1e-8, fused=True)

    def apart(self, model: "nn.Module") -> set[int]:
        from mmpt.training.optimizers._adamw8bit import large_parameters

        return large_parameters(model)

    def state(self, shape: Shape, apart: bool) -> dict[str, tuple[int, ...]]:
        if not apart:
            return super().state(shape, apart)
        scales = (-(-math.prod(shape) // BLOCK),)
        return {
            "exp_avg_codes": tuple(shape),
            "exp_avg_sq_codes": tuple(shape),
            "exp_avg_scales": scales,
            "exp_avg_sq_scales": scales,
        }
