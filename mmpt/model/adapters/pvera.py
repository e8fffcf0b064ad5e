from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class Pvera(Adapter):
    """VeRA whose low-rank part is a Gaussian, drawn from in training and at its mean otherwise (Fillioux et al. 2025,
    arXiv:2512.07703)."""

    settings_of_peft: ClassVar[str] = "PveraConfig"

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
            "pvera_dropout": self.dropout,
            "projection_prng_key": seed,
        }
