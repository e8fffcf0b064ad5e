from typing import TYPE_CHECKING, ClassVar

from mmpt.model.connectors._queries import QueryingConnector

if TYPE_CHECKING:
    from torch import nn


class Qformer(QueryingConnector):
    """Learned queries, self- and cross-attention in turn (BLIP-2, Li et al. 2023, arXiv:2301.12597)."""

    carries: ClassVar[tuple[str, ...]] = ("Video-LLaMA",)

    def build(self, feature_width: int, width: int) -> "nn.Module":
        from mmpt.model.connectors._qformer import LearnedQueries

        return LearnedQueries(self, feature_width, self.inner(feature_width), width)
