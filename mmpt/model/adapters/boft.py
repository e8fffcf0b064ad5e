from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class Boft(Adapter):
    """Weights turned by a product of sparse orthogonal matrices, laid out as butterflies (Liu et al. 2023, arXiv:2311.06243)."""

    settings_of_peft: ClassVar[str] = "BOFTConfig"

    block_size: int = pydantic.Field(default=4, ge=2)
    """Inputs that a block turns; divides the inputs of every target."""

    factors: int = pydantic.Field(default=1, ge=1)
    """Matrices in the product: the more, the more inputs are mixed with each other."""

    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Share of the blocks that are left as they are in training."""

    def options(self, seed: int) -> dict[str, Any]:
        return {
            "boft_block_size": self.block_size,
            "boft_n_butterfly_factor": self.factors,
            "boft_dropout": self.dropout,
        }
