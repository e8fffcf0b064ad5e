from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class Peanut(Adapter):
    """The update is a small network's answer to the frozen weights (Zhong et al. 2024, arXiv:2410.01870)."""

    settings_of_peft: ClassVar[str] = "PeanutConfig"

    rank: int = pydantic.Field(default=32, ge=1)
    """Hidden width of the network."""

    depth: int = pydantic.Field(default=0, ge=0, multiple_of=2)
    """Layers between its first and its last; even: they come in pairs of encoder and decoder."""

    activation: str = "relu"
    """Its activation, by the name that transformers has for it."""

    scale: float = pydantic.Field(default=1.0, gt=0)
    """Factor on the update."""

    def options(self, seed: int) -> dict[str, Any]:
        return {"r": self.rank, "depth": self.depth, "act_fn": self.activation, "scaling": self.scale}
