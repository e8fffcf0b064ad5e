from typing import TYPE_CHECKING, ClassVar, Self, cast

import pydantic

from mmpt.model.entries import Entry

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from mmpt.model.entering import Entering
    from mmpt.model.entries._inner import InnerAdaptors


class Inner(Entry):
    """As rows, and through trained copies of layers inside the frozen decoder (inner adaptors, IAA, Wang et al. 2024,
    arXiv:2408.12902). Their change of the hidden states comes in by gates that start at 0, in documents with media of the kind
    alone: of text the decoder makes bit for bit what it made before. Needs a frozen decoder without an adapter."""

    carries: ClassVar[tuple[str, ...]] = ("IAA (Inner-Adaptor Architecture)",)

    inside: ClassVar[bool] = True

    decoder: list[int] = pydantic.Field(min_length=1)
    """Layers of the decoder behind each of which a copy of it stands, counted from 0."""

    @pydantic.model_validator(mode="after")
    def _different(self) -> Self:
        if len(set(self.decoder)) < len(self.decoder) or min(self.decoder) < 0:
            raise ValueError(f"decoder: {self.decoder}, expected different numbers of layers, counted from 0")
        return self

    def entering(self, slots: "Tensor", rows: "Tensor") -> "Entering":
        from mmpt.model.entering import Entering

        return Entering(slots.flatten(), rows.flatten(0, 1))

    def layers_inside(self, model: "PreTrainedModel", number: int) -> "nn.Module | None":
        from mmpt.model.entries._inner import InnerAdaptors

        return InnerAdaptors(model, self.decoder, number)

    def attach(self, model: "PreTrainedModel", kind: str, inside: "nn.Module | None") -> None:
        cast("InnerAdaptors", inside).attach(model, kind)
