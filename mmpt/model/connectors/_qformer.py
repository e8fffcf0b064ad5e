from torch import Tensor, nn

from mmpt.model.connectors.qformer import Qformer as Settings
from mmpt.tokenizers.image.config import QformerConfig
from mmpt.tokenizers.image.qformer import Qformer


class LearnedQueries(nn.Module):
    """The image tokenizer's query transformer, all queries seeing each other, and a linear map to the decoder's width."""

    def __init__(self, settings: Settings, feature_width: int, inner: int, width: int):
        super().__init__()
        shape = QformerConfig(
            queries=settings.rows, width=inner, depth=settings.depth, heads=settings.heads, sharpness=1.0, causal=False
        )
        self.queries, self.out = Qformer(shape, feature_width), nn.Linear(inner, width)

    def forward(self, features: Tensor) -> Tensor:
        return self.out(self.queries(features))
