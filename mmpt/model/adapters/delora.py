from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class Delora(Adapter):
    """Low-rank updates of a bounded, learned strength: direction and size apart (Bini et al. 2025, arXiv:2503.18225)."""

    settings_of_peft: ClassVar[str] = "DeloraConfig"

    rank: int = pydantic.Field(default=8, ge=1)
    """Rank of the update of each layer."""

    strength: float = pydantic.Field(default=15.0, gt=0)
    """Bound on the update's norm as a multiple of the weights', at the start."""

    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Share of the update's inputs that are dropped in training."""

    def options(self, seed: int) -> dict[str, Any]:
        return {"r": self.rank, "delora_lambda": self.strength, "module_dropout": self.dropout}
