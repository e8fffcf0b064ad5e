from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class Vera(Adapter):
    """One pair of random matrices for all layers, of which each learns two vectors of factors (Kopiczko et al. 2023,
    arXiv:2310.11454)."""

    carries: ClassVar[tuple[str, ...]] = ("Intrinsic Dimensionality of LM Fine-Tuning",)

    settings_of_peft: ClassVar[str] = "VeraConfig"

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
            "vera_dropout": self.dropout,
            "projection_prng_key": seed,
        }
