"""Changes of which most numbers are dropped, where the models agree on their sign."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmpt.model.merges import Trimmed

if TYPE_CHECKING:
    from torch import Tensor


class DareTies(Trimmed):
    """As `ties`, of changes of which numbers are dropped at random and the rest scaled up by 1 ÷ density (DARE, Yu et al. 2023,
    arXiv:2311.03099, before TIES, arXiv:2306.01708)."""

    def change(self, vectors: Sequence["Tensor"], weights: Sequence[float]) -> "Tensor":
        return self.elected(self.kept(vectors, "random"), weights)
