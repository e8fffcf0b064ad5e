from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class Glora(Adapter):
    """Scale, shift and low-rank update of weights and biases in one (Chavan et al. 2023, arXiv:2306.07967)."""

    settings_of_peft: ClassVar[str] = "GloraConfig"

    rank: int = pydantic.Field(default=8, ge=1)
    """Rank of each of the matrices."""

    def options(self, seed: int) -> dict[str, Any]:
        return {"r": self.rank}
