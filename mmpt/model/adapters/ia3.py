from typing import Any, ClassVar, Self

import pydantic

from mmpt.model.adapters import Adapter


class Ia3(Adapter):
    """A factor on each key, value and feed-forward activation (IA3, Liu et al. 2022, arXiv:2205.05638)."""

    settings_of_peft: ClassVar[str] = "IA3Config"

    targets: str | list[str] = ["k_proj", "v_proj", "down_proj"]
    """The ends of the names of the layers."""

    feedforward: list[str] = ["down_proj"]
    """Those of them whose inputs are scaled in place of their outputs."""

    @pydantic.model_validator(mode="after")
    def _named(self) -> Self:
        if isinstance(self.targets, str) or not set(self.feedforward) <= set(self.targets):
            raise ValueError("expected a list of targets, and in feedforward none but some of them")
        return self

    def options(self, seed: int) -> dict[str, Any]:
        return {"feedforward_modules": list(self.feedforward)}
