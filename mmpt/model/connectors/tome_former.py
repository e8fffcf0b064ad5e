from typing import TYPE_CHECKING, ClassVar

from mmpt.model.connectors._queries import QueryingConnector

if TYPE_CHECKING:
    from torch import nn


class TomeFormer(QueryingConnector):
    """Blocks of self-attention, in each of which features that are alike become one until so many rows are left (EVLGen's
    TomeFormer, Jian et al. 2023, arXiv:2310.03291): one stage and the loss of captions in place of BLIP-2's two stages. Merged
    features weigh as many as they are made of, in the attention too (ToMe, Bolya et al. 2022, arXiv:2210.09461)."""

    carries: ClassVar[tuple[str, ...]] = ("SimVLG / EVLGen",)

    def build(self, feature_width: int, width: int) -> "nn.Module":
        from mmpt.model.connectors._tome_former import Merging

        return Merging(self, feature_width, self.inner(feature_width), width)

    def count(self, features: int) -> int:
        self.merges(features)
        return self.rows

    def merges(self, features: int) -> list[int]:
        """How many features are merged in each block, as evenly as can be. Raises `ValueError` where the blocks are too few: in
        one at most half of the features can go."""
        if features < self.rows:
            raise ValueError(f"tome_former: {features} features cannot become {self.rows} rows")
        left, found = features, []
        for block in range(self.depth):
            rest = self.depth - block - 1
            # Evenly, but as many as the blocks to come could not halve away.
            count = max(-(-(left - self.rows) // (rest + 1)), left - self.rows * 2**rest)
            found.append(min(count, left // 2))
            left -= found[-1]
        if left > self.rows:
            raise ValueError(f"tome_former: depth {self.depth} leaves {left} of {features} features, not {self.rows}")
        return found

    @property
    def fewest(self) -> int:
        return self.rows
