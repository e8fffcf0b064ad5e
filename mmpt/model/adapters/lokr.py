from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class Lokr(Adapter):
    """The Kronecker product of a small and a low-rank matrix (KronA, Edalati et al. 2022, arXiv:2212.10650; as LoKr in
    LyCORIS, Yeh et al. 2023, arXiv:2309.14859)."""

    settings_of_peft: ClassVar[str] = "LoKrConfig"

    rank: int = pydantic.Field(default=8, ge=1)
    """Rank of the larger factor."""

    alpha: float = pydantic.Field(default=8.0, gt=0)
    """The update is scaled by `alpha` / `rank`."""

    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Share of the rows of the update that are dropped in training."""

    def options(self, seed: int) -> dict[str, Any]:
        return {"r": self.rank, "alpha": self.alpha, "rank_dropout": self.dropout}
