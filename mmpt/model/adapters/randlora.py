from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class Randlora(Adapter):
    """A sum of random low-rank matrices, together of full rank, whose scales learn (Albert et al. 2025, arXiv:2502.00987)."""

    carries: ClassVar[tuple[str, ...]] = ("Intrinsic Dimensionality of LM Fine-Tuning",)

    settings_of_peft: ClassVar[str] = "RandLoraConfig"

    rank: int = pydantic.Field(default=32, ge=1)
    """Rank of each of the random matrices; the smaller, the more of them and of their scales."""

    alpha: float = pydantic.Field(default=640.0, gt=0)
    """The update is scaled by `alpha` / `rank`; 20 times the rank in the paper."""

    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Share of the update's inputs that are dropped in training."""

    def options(self, seed: int) -> dict[str, Any]:
        return {
            "r": self.rank,
            "randlora_alpha": self.alpha,
            "randlora_dropout": self.dropout,
            "projection_prng_key": seed,
        }
