"""Reducers: fewer features of a medium before its connector, as many as the settings say."""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import pydantic

from mmpt.methods import Method

if TYPE_CHECKING:
    from torch import Tensor


class Reducer(Method):
    """How N features become `rows` of them; it has no weights."""

    key: ClassVar[str] = "reduce"
    default_kind: ClassVar[str] = "pool"

    rows: int = pydantic.Field(ge=1)
    """Features that are left of each view of a medium."""

    @property
    def in_order(self) -> bool:
        """Whether feature i that is left is made of those around the same place of N alone."""
        return False

    @abstractmethod
    def reduce(self, features: "Tensor") -> "Tensor":
        """[B, N, D] → [B, `rows`, D]. Raises `ValueError` where N does not suit."""
