from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class Gralora(Adapter):
    """A low-rank update for each block of a matrix, of full rank together (Jung et al. 2025, arXiv:2505.20355)."""

    settings_of_peft: ClassVar[str] = "GraloraConfig"

    rank: int = pydantic.Field(default=32, ge=1)
    """Rank over all blocks; a multiple of `blocks`."""

    alpha: float = pydantic.Field(default=64.0, gt=0)
    """The update is scaled by `alpha` / `rank`."""

    blocks: int = pydantic.Field(default=2, ge=1)
    """Blocks along each side of a matrix; divides both sides of every target."""

    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Share of the update's inputs that are dropped in training."""

    def options(self, seed: int) -> dict[str, Any]:
        return {
            "r": self.rank,
            "alpha": self.alpha,
            "gralora_k": self.blocks,
            "gralora_dropout": self.dropout,
        }
