from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Self, cast

import pydantic

from mmpt.model.connectors import Connector
from mmpt.model.entries import Entry

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from mmpt.model.entering import Entering
    from mmpt.model.entries._cross import CrossLayers


class Cross(Entry):
    """Through gated cross-attention in front of layers of the decoder (Flamingo, Alayrac et al. 2022, arXiv:2204.14198; NVLM-X
    and, with `whole_as_rows`, NVLM-H, Dai et al. 2024, arXiv:2409.11402): each view takes one slot, and from there on the tokens
    of its document attend to its rows. The gates start at 0, and documents without media pass unchanged, so of text the decoder
    makes bit for bit what it made before. In the upper layers alone it is COSMO's (Wang et al. 2024, arXiv:2401.00849). Needs a
    decoder without an adapter."""

    carries: ClassVar[tuple[str, ...]] = ("NVLM 1.0",)
    inside: ClassVar[bool] = True

    decoder: list[int] = pydantic.Field(min_length=1)
    """Layers of the decoder in front of each of which one stands, counted from 0."""
    heads: int = pydantic.Field(default=8, ge=1)
    """Of the attention."""
    width: int | None = pydantic.Field(default=None, ge=1)
    """Of all heads together, and a quarter of its MLP; null: the decoder's. A smaller one costs less."""

    whole_as_rows: bool = False
    """The whole picture behind its tiles enters as rows of the decoder's input, the tiles through cross-attention (NVLM-H)."""

    @pydantic.model_validator(mode="after")
    def _different(self) -> Self:
        if len(set(self.decoder)) < len(self.decoder) or min(self.decoder) < 0:
            raise ValueError(f"decoder: {self.decoder}, expected different numbers of layers, counted from 0")
        if self.width is not None and self.width % self.heads:
            raise ValueError(f"width: {self.width}, expected a multiple of {self.heads} heads")
        return self

    def slots(self, connector: Connector, features: int) -> int:
        connector.count(features)
        return 1

    def whole(self, connector: Connector, features: int) -> int | None:
        return connector.slots(features) if self.whole_as_rows else None

    def brought(self, places: "Tensor", shares: Sequence[int], rows: "Tensor", full: int) -> "Entering":
        if not self.whole_as_rows or not shares:
            return super().brought(places, shares, rows, full)
        import torch

        held = torch.tensor([count == full for count in shares])  # the tiles; the others are whole pictures
        slots = torch.repeat_interleave(held, torch.tensor(shares))
        tiles, wholes, own, others = (torch.nonzero(one).squeeze(1) for one in (held, ~held, slots, ~slots))
        found = self.entering(places[own.to(places.device)], rows[tiles.to(rows.device)])
        return found._replace(slots=places[others.to(places.device)], rows=rows[wholes.to(rows.device)].flatten(0, 1))

    def entering(self, slots: "Tensor", rows: "Tensor") -> "Entering":
        from mmpt.model.entering import OWN, Entering, Memory, Remembered

        memories = {OWN: (Remembered(Memory(rows), slots.flatten()),)}
        return Entering(slots.new_zeros(0), rows.new_zeros(0, rows.shape[-1]), memories=memories)

    def layers_inside(self, model: "PreTrainedModel", number: int) -> "nn.Module | None":
        from mmpt.model.entries._cross import CrossLayers

        return CrossLayers(self, model)

    def attach(self, model: "PreTrainedModel", kind: str, inside: "nn.Module | None") -> None:
        cast("CrossLayers", inside).attach(model, kind)
