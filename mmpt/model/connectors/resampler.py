from typing import TYPE_CHECKING

from mmpt.model.connectors._queries import QueryingConnector

if TYPE_CHECKING:
    from torch import nn


class Resampler(QueryingConnector):
    """Learned latents attend to the features and to each other (Flamingo, Alayrac et al. 2022, arXiv:2204.14198)."""

    def build(self, feature_width: int, width: int) -> "nn.Module":
        from mmpt.model.connectors._resampler import Latents

        return Latents(self, feature_width, self.inner(feature_width), width)
