from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class Hira(Adapter):
    """The Hadamard product of the frozen weights and a low-rank matrix, of high rank (Huang et al. 2025, HiRA, ICLR 2025,
    openreview TwJrTz9cRS)."""

    settings_of_peft: ClassVar[str] = "HiraConfig"

    rank: int = pydantic.Field(default=32, ge=1)
    """Rank of the update of each layer."""

    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Share of the update's inputs that are dropped in training."""

    def options(self, seed: int) -> dict[str, Any]:
        return {"r": self.rank, "hira_dropout": self.dropout}
