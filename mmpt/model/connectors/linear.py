from typing import TYPE_CHECKING, ClassVar

from mmpt.model.connectors import Connector

if TYPE_CHECKING:
    from torch import nn


class Linear(Connector):
    """One linear map of each feature (LiMBeR, Merullo et al. 2022, arXiv:2209.15162)."""

    carries: ClassVar[tuple[str, ...]] = ("LiMBeR (linear mapping from image to text)",)
    in_order: ClassVar[bool] = True

    def build(self, feature_width: int, width: int) -> "nn.Module":
        from torch import nn

        return nn.Linear(feature_width, width)
