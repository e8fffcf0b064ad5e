"""What connectors share that ask their features with learned queries."""

from typing import Self

import pydantic

from mmpt.model.connectors import Connector


class QueryingConnector(Connector):
    """So many rows of each picture or sound, however many features it has."""

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

    def inner(self, feature_width: int) -> int:
        """Width of the blocks. Raises `ValueError` where the heads do not divide it."""
        inner = self.width or feature_width
        if inner % self.heads:
            raise ValueError(f"connector.heads {self.heads} does not divide its width {inner}")
        return inner

    def count(self, features: int) -> int:
        return self.rows
