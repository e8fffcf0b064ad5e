"""Adafactor, torch's: second moments of matrices as one row and one column."""

from typing import TYPE_CHECKING, ClassVar

import pydantic

from mmpt.training.optimizers import Optimizer, Shape

if TYPE_CHECKING:
    import torch


class Adafactor(Optimizer):
    """No first moment, and of a matrix's second moments their means by row and by column: a state of rows + columns numbers in
    place of AdamW's 2 · rows · columns (Shazeer and Stern 2018, arXiv:1804.04235). The learning rate is relative to the size of
    each parameter: about ten times AdamW's."""

    whole_matrices: ClassVar[bool] = True

    beta2_decay: float = pydantic.Field(default=-0.8, le=0)
    """Exponent of the step number in 1 − β₂, the weight of a new gradient in the second moments."""
    clip_update: float = pydantic.Field(default=1.0, ge=1)
    """Root mean square of an update of a parameter, in units of the learning rate, above which it is scaled down (the paper's
    d)."""

    def build(self, groups: list[dict]) -> "torch.optim.Adafactor":
        import torch

        return torch.optim.Adafactor(groups, lr=self.learning_rate, beta2_decay=self.beta2_decay, d=self.clip_update)

    def state(self, shape: Shape, apart: bool) -> dict[str, tuple[int, ...]]:
        if len(shape) < 2:
            return {"variance": tuple(shape)}
        return {"row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, shape[-1])}
