from torch import Tensor, nn

from mmpt.layers.qformer import Qformer
from mmpt.model.connectors.qformer import Qformer as Settings


class LearnedQueries(nn.Module):
    """The image tokenizer's query transformer, all queries seeing each other, and a linear map to the decoder's width."""

    def __init__(self, settings: Settings, feature_width: int, inner: int, width: int):
        super().__init__()
        self.queries = Qformer(settings.rows, inner, settings.depth, settings.heads, feature_width, causal=False)
        self.out = nn.Linear(inner, width)

    def forward(self, features: Tensor) -> Tensor:
        return self.out(self.queries(features))
