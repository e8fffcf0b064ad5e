from typing import TYPE_CHECKING

from mmpt.model.reducers import Reducer

if TYPE_CHECKING:
    from torch import Tensor


class Drop(Reducer):
    """Of all features those that differ most are kept, in order (DivPrune, Alvar et al. 2025, arXiv:2503.02175): first the one
    that is farthest from its nearest, then again and again the one that is farthest from all that are kept, by cosine."""

    def reduce(self, features: "Tensor") -> "Tensor":
        from mmpt.model.reducers._drop import most_different

        return most_different(features, self.rows)
