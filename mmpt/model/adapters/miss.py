from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class Miss(Adapter):
    """One small matrix of a layer, repeated over groups of its inputs (MiSS, Kang and Yin 2024,
    arXiv:2409.15371)."""

    settings_of_peft: ClassVar[str] = "MissConfig"

    rank: int = pydantic.Field(default=64, ge=2, multiple_of=2)
    """Rows of the matrix that is shared; even."""

    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Share of the update's inputs that are dropped in training."""

    def options(self, seed: int) -> dict[str, Any]:
        return {"r": self.rank, "miss_dropout": self.dropout}
