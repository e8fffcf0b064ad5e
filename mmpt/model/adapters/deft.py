from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class Deft(Adapter):
    """A low-rank subspace of the weights is removed and filled anew (DEFT, "Decompositional Efficient Fine-Tuning for
    Text-to-Image Models", NeurIPS 2025)."""

    settings_of_peft: ClassVar[str] = "DeftConfig"

    rank: int = pydantic.Field(default=8, ge=1)
    """Dimensions of the subspace."""

    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Share of the update's inputs that are dropped in training."""

    def options(self, seed: int) -> dict[str, Any]:
        return {"r": self.rank, "deft_dropout": self.dropout}
