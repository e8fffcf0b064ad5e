from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class Supertuning(Adapter):
    """The largest of the frozen weights learn (Super-Tuning, arXiv:2607.09287, whose default in peft this is)."""

    settings_of_peft: ClassVar[str] = "SupertuningConfig"

    share: float = pydantic.Field(default=0.01, gt=0, le=1)
    """Share of each layer's weights."""

    def options(self, seed: int) -> dict[str, Any]:
        return {"sparsity": 1.0 - self.share}
