from typing import TYPE_CHECKING, ClassVar

from mmpt.model.connectors import Connector

if TYPE_CHECKING:
    from torch import nn


class Mlp(Connector):
    """Two linear maps of each feature with a GELU between them (LLaVA-1.5, Liu et al. 2023, arXiv:2310.03744)."""

    carries: ClassVar[tuple[str, ...]] = ("Molmo / PixMo",)
    in_order: ClassVar[bool] = True

    def build(self, feature_width: int, width: int) -> "nn.Module":
        from mmpt.model.connectors._mlp import two_layers

        return two_layers(feature_width, width)
