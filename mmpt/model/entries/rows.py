from typing import TYPE_CHECKING

from mmpt.model.entries import Entry

if TYPE_CHECKING:
    from torch import Tensor

    from mmpt.model.entering import Entering


class Rows(Entry):
    """As rows of the decoder's input, in place of embeddings of tokens (Frozen, Tsimpoukelli et al. 2021, arXiv:2106.13884)."""

    def entering(self, slots: "Tensor", rows: "Tensor") -> "Entering":
        from mmpt.model.entering import Entering

        return Entering(slots.flatten(), rows.flatten(0, 1))
