"""The largest changes, where the models agree on their sign."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmpt.model.merges import Trimmed

if TYPE_CHECKING:
    from torch import Tensor


class Ties(Trimmed):
    """The largest numbers of each change, and of these at each place the mean of those with the sign of their sum (TIES, Yadav et
    al. 2023, arXiv:2306.01708; trimmed tensor by tensor)."""

    def change(self, vectors: Sequence["Tensor"], weights: Sequence[float]) -> "Tensor":
        return self.elected(self.kept(vectors, "magnitude"), weights)
