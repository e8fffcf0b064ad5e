"""Entries: how features of media come into the decoder."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from mmpt.methods import Method
from mmpt.model.connectors import Connector

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from mmpt.model.entering import Entering


class Entry(Method):
    """Where rows of a connector meet the decoder. `inside`: whether it adds layers to the decoder, which then know of each
    document whether it has media of the kind."""

    key: ClassVar[str] = "enters"
    default_kind: ClassVar[str] = "rows"
    inside: ClassVar[bool] = False

    def features(self, encoder: "nn.Module", inputs: "Tensor") -> "Tensor":
        """What the connector takes of B media: [B, N, D], from the frozen `encoder` and its `inputs`."""
        return encoder(inputs)

    def slots(self, connector: Connector, features: int) -> int:
        """Positions of the decoder's input that a medium of so many `features` takes. Raises `ValueError` where the connector
        does not suit."""
        return connector.slots(features)

    def whole(self, connector: Connector, features: int) -> int | None:
        """Positions of the whole picture behind its tiles, where it takes others than a tile."""
        return None

    def blank(self, connector: Connector) -> int:
        """A number of features that `connector` takes where there is no medium."""
        return connector.fewest

    def brought(self, places: "Tensor", shares: Sequence[int], rows: "Tensor", full: int) -> "Entering":
        """What media bring into a pass: the connector's `rows` [B, M, H] of B views, of which each takes its share of the
        `places` int64 [n] in it; a whole view takes `full`."""
        import torch

        if all(count == full for count in shares):
            return self.entering(places.view(len(rows), full), rows)
        # Views of different lengths: all of them as one.
        kept = torch.cat([torch.arange(count) + number * full for number, count in enumerate(shares)])
        return self.entering(places[None], rows.flatten(0, 1)[kept.to(rows.device, non_blocking=True)][None])

    @abstractmethod
    def entering(self, slots: "Tensor", rows: "Tensor") -> "Entering":
        """What B views bring into a pass: `slots` int64 [B, slots], positions in it, and the connector's `rows` [B, M, H]."""

    def layers_inside(self, model: "PreTrainedModel", number: int) -> "nn.Module | None":
        """New layers that learn inside the decoder; `number` tells those of different kinds of media apart."""
        return None

    def attach(self, model: "PreTrainedModel", kind: str, inside: "nn.Module | None") -> None:
        """Let the decoder's layers look at what media of `kind` bring; `inside` as `layers_inside` gave it. Raises `ConfigError`
        where the decoder has no such layers."""
