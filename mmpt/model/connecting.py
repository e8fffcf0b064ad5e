"""A connector (see `mmpt.model.connectors`) at work: features in, rows out, and rows into the decoder's input."""

import torch
from torch import Tensor, nn

from mmpt.model.connectors import Connector


class FeatureMap(nn.Module):
    """[B, N, `feature_width`] of B pictures or sounds → [B, rows, `width`], the decoder's width.

    Raises `ValueError` where the connector's settings do not fit the width of the features.
    """

    def __init__(self, connector: Connector, feature_width: int, width: int):
        super().__init__()
        self.connector, self.feature_width, self.width = connector, feature_width, width
        self.map = connector.build(feature_width, width)
        self.start = nn.Parameter(0.02 * torch.randn(width)) if connector.start_token else None
        self.inside: nn.Module | None = (
            None  # layers inside the decoder, where the entry has some: trained and saved with the rest
        )

    def forward(self, features: Tensor) -> Tensor:
        rows = self.map(features)
        if self.start is None:
            return rows
        return torch.cat([self.start.expand(len(rows), 1, -1), rows], dim=1)


def place(embeddings: Tensor, slots: Tensor, rows: Tensor) -> Tensor:
    """`embeddings` [1, T, H] with `rows` [n, H] at the positions `slots` int64 [n]; gradients go to both.

    Raises `ValueError` where there are not as many rows as slots.
    """
    if len(slots) != len(rows):
        raise ValueError(f"{len(rows)} rows of features for {len(slots)} slots")
    return embeddings.index_copy(1, slots, rows.to(embeddings.dtype).unsqueeze(0))


def connected(connector: FeatureMap, features: Tensor | None, blank: int) -> tuple[Tensor, Tensor]:
    """(rows [B, rows, width] of `features` [B, N, D], a zero that depends on every weight of the connector).

    Add the zero to the loss. Without `features` there are no rows (B is 0), and the connector runs on `blank` zeros all the
    same: under ZeRO 3 every rank must gather every parameter, or the others wait for ever (DeepSpeed issue 7170).
    """
    if features is not None and len(features):
        rows = connector(features)
        return rows, 0.0 * rows.sum()
    weight = next(connector.parameters())
    rows = connector(weight.new_zeros(1, blank, connector.feature_width))
    return rows[:0], 0.0 * rows.sum()
