"""Sums of changes of which most numbers are dropped."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmpt.model.merges import Trimmed
from mmpt.model.merges.task_arithmetic import TaskArithmetic

if TYPE_CHECKING:
    from torch import Tensor


class DareLinear(Trimmed):
    """The sum of changes of which numbers are dropped at random and the rest scaled up by 1 ÷ density (DARE, Yu et al. 2023,
    arXiv:2311.03099)."""

    def change(self, vectors: Sequence["Tensor"], weights: Sequence[float]) -> "Tensor":
        return TaskArithmetic().change(self.kept(vectors, "random"), weights)
