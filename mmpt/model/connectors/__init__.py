"""Connectors: features of a frozen encoder become rows of the decoder's input."""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from mmpt.methods import Method

if TYPE_CHECKING:
    from torch import nn


class Connector(Method):
    """How features [B, N, `feature_width`] of B pictures or sounds become rows [B, M, `width`] of a decoder so wide."""

    key: ClassVar[str] = "connector"
    default_kind: ClassVar[str] = "mlp"
    in_order: ClassVar[bool] = False
    """Whether row i is made of feature i alone."""

    start_token: bool = False
    """A learned row in front of the rows of each picture or sound (eP-ALM, Shukor et al. 2023, arXiv:2303.11403)."""

    @abstractmethod
    def build(self, feature_width: int, width: int) -> "nn.Module":
        """The map, at random weights: [B, N, `feature_width`] → [B, M, `width`]. Raises `ValueError` where the settings do not
        fit the width of the features."""

    def count(self, features: int) -> int:
        """M for N `features`. Raises `ValueError` where so many cannot be connected."""
        return features

    def slots(self, features: int) -> int:
        """Rows with the start token."""
        return self.count(features) + self.start_token

    @property
    def fewest(self) -> int:
        """A number of features that the map takes, for a pass that only asks for its weights."""
        return 1
