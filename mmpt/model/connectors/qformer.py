from typing import TYPE_CHECKING, ClassVar, Self

import pydantic

from mmpt.model.connectors import Connector

if TYPE_CHECKING:
    from torch import nn


class Qformer(Connector):
    """Learned queries, self- and cross-attention in turn (BLIP-2, Li et al. 2023, arXiv:2301.12597)."""

    carries: ClassVar[tuple[str, ...]] = ("Video-LLaMA",)

    rows: int = pydantic.Field(default=64, ge=1)
    """Rows that come of each picture or sound."""

    depth: int = pydantic.Field(default=2, ge=1)
    """Blocks of attention and MLP."""

    width: int | None = pydantic.Field(default=None, ge=1)
    """Width of the blocks; null: that of the features."""

    heads: int = pydantic.Field(default=8, ge=1)
    """Heads of attention; divides the width."""

    @pydantic.model_validator(mode="after")
    def _width_fits(self) -> Self:
        if self.width is not None and self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self

    def build(self, feature_width: int, width: int) -> "nn.Module":
        from mmpt.model.connectors._qformer import LearnedQueries

        inner = self.width or feature_width
        if inner % self.heads:
            raise ValueError(f"connector.heads {self.heads} does not divide its width {inner}")
        return LearnedQueries(self, feature_width, inner, width)

    def count(self, features: int) -> int:
        return self.rows
