from typing import TYPE_CHECKING, ClassVar, Self, cast

import pydantic

from mmpt.model.connectors import Connector
from mmpt.model.entries import Entry

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from mmpt.model.entering import Entering


class Layers(Entry):
    """Layers of the encoder into layers of the decoder (eP-ALM, Shukor et al. 2023, arXiv:2303.11403): one slot for each medium,
    whose hidden state is replaced before each chosen layer, the deeper the later. The paper's connector is `linear` with a
    `start_token`."""

    carries: ClassVar[tuple[str, ...]] = ("eP-ALM",)

    encoder: list[int] = pydantic.Field(min_length=1)
    """Layers of the encoder whose states are taken, rising, counted from 0."""

    decoder: list[int] = pydantic.Field(min_length=1)
    """Layers of the decoder before which they come in, one for each of `encoder`, rising, counted from 0."""

    @pydantic.model_validator(mode="after")
    def _pairs(self) -> Self:
        if len(self.encoder) != len(self.decoder):
            raise ValueError(f"{len(self.encoder)} layers of the encoder for {len(self.decoder)} of the decoder")
        for name, layers in (("encoder", self.encoder), ("decoder", self.decoder)):
            if layers != sorted({layer for layer in layers if layer >= 0}):
                raise ValueError(f"{name}: {layers}, expected rising numbers of layers, counted from 0")
        return self

    def features(self, encoder: "nn.Module", inputs: "Tensor") -> "Tensor":
        from mmpt.layers.resting import Resting
        from mmpt.model.features import layer_states

        return layer_states(cast(Resting, encoder), inputs, self.encoder)

    def slots(self, connector: Connector, features: int) -> int:
        if connector.count(features) != features:
            raise ValueError(f"{connector.kind} gives {connector.count(features)} rows, enters: layers needs {features}")
        return 1 + connector.start_token

    def blank(self, connector: Connector) -> int:
        return len(self.encoder)

    def entering(self, slots: "Tensor", rows: "Tensor") -> "Entering":
        from mmpt.model.entering import Entering, LayerRows

        start = rows.shape[1] - len(self.decoder)
        inner = tuple(LayerRows(layer, slots[:, start], rows[:, start + i]) for i, layer in enumerate(self.decoder))
        return Entering(slots[:, :start].flatten(), rows[:, :start].flatten(0, 1), inner)

    def attach(self, model: "PreTrainedModel", kind: str, inside: "nn.Module | None") -> None:
        from mmpt.model.entries._layers import replace_states

        replace_states(model, self.decoder)
