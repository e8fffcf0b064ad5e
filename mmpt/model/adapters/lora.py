from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class Lora(Adapter):
    """Low-rank updates, W + alpha / rank · B · A (Hu et al. 2021, arXiv:2106.09685)."""

    carries: ClassVar[tuple[str, ...]] = ("Small Models, Big Impact (adapter study for low-resource languages)",)

    settings_of_peft: ClassVar[str] = "LoraConfig"

    rank: int = pydantic.Field(default=16, ge=1)
    """Rank of the update of each layer."""

    alpha: float = pydantic.Field(default=32.0, gt=0)
    """The update is scaled by `alpha` / `rank`."""

    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Share of the update's inputs that are dropped in training."""

    def options(self, seed: int) -> dict[str, Any]:
        return {"r": self.rank, "lora_alpha": self.alpha, "lora_dropout": self.dropout}
