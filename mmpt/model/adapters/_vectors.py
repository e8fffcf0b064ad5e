"""What VeRA and its kin share: one pair of random matrices, and vectors of factors that learn."""

from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class VectorAdapter(Adapter):
    """Shared random matrices are drawn from the seed; `dropout_of_peft`: what peft calls the dropout of this one."""

    dropout_of_peft: ClassVar[str]

    rank: int = pydantic.Field(default=256, ge=1)
    """Rank of the shared random matrices."""

    start: float = 0.1
    """What the factors of the rank start from."""

    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Share of the update's inputs that are dropped in training."""

    def options(self, seed: int) -> dict[str, Any]:
        return {
            "r": self.rank,
            "d_initial": self.start,
            self.dropout_of_peft: self.dropout,
            "projection_prng_key": seed,
        }
