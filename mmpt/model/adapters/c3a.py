from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class C3a(Adapter):
    """Block-circular convolutions, of full rank at few parameters (Chen et al. 2024, arXiv:2407.19342)."""

    settings_of_peft: ClassVar[str] = "C3AConfig"

    block_size: int = pydantic.Field(default=256, ge=1)
    """Side of a block; divides inputs and outputs of every target."""

    def options(self, seed: int) -> dict[str, Any]:
        return {"block_size": self.block_size, "init_weights": True}
