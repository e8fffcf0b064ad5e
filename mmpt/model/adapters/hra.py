from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class Hra(Adapter):
    """Weights turned by a chain of Householder reflections (Yuan et al. 2024, arXiv:2405.17484)."""

    settings_of_peft: ClassVar[str] = "HRAConfig"

    reflections: int = pydantic.Field(default=8, ge=2, multiple_of=2)
    """Length of the chain; even, so that neighbours start as each other's inverse."""

    def options(self, seed: int) -> dict[str, Any]:
        return {"r": self.reflections}
