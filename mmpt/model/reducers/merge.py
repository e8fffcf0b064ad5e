from typing import TYPE_CHECKING

from mmpt.model.reducers import Reducer

if TYPE_CHECKING:
    from torch import Tensor


class Merge(Reducer):
    """Features that are alike become their mean, by bipartite matching (token merging, ToMe, Bolya et al. 2022,
    arXiv:2210.09461). As many as are left over, at most half of them, are merged in each round; each counts as many as it is
    made of, and what is left stands in the order of the picture."""

    def reduce(self, features: "Tensor") -> "Tensor":
        from mmpt.model.reducers._merge import merged

        return merged(features, self.rows)[0]
