from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class Oft(Adapter):
    """Weights turned by a block-diagonal orthogonal matrix, which keeps the angles between neurons (Qiu et al. 2023,
    arXiv:2306.07280)."""

    settings_of_peft: ClassVar[str] = "OFTConfig"

    block_size: int = pydantic.Field(default=32, ge=2)
    """Inputs that a block turns; divides the inputs of every target."""

    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Share of the blocks that are left as they are in training."""

    def options(self, seed: int) -> dict[str, Any]:
        return {"oft_block_size": self.block_size, "module_dropout": self.dropout}
