from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class Shira(Adapter):
    """A sparse random choice of the weights themselves learns (Bhardwaj et al. 2024, arXiv:2406.13175). The choice is drawn
    again from the seed when a checkpoint is loaded."""

    carries: ClassVar[tuple[str, ...]] = ("DSEE (Dually Sparsity-Embedded Efficient Tuning)",)

    settings_of_peft: ClassVar[str] = "ShiraConfig"

    rank: int = pydantic.Field(default=32, ge=1)
    """As many weights learn as a low-rank update of this rank would have."""

    def options(self, seed: int) -> dict[str, Any]:
        return {"r": self.rank, "random_seed": seed}
