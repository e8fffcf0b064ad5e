from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class Loha(Adapter):
    """The Hadamard product of two low-rank matrices, of rank up to rank² (FedPara, Hyeon-Woo et al. 2021, arXiv:2108.06098; as
    LoHa in LyCORIS, Yeh et al. 2023, arXiv:2309.14859)."""

    settings_of_peft: ClassVar[str] = "LoHaConfig"

    rank: int = pydantic.Field(default=8, ge=1)
    """Rank of each of the two matrices."""

    alpha: float = pydantic.Field(default=8.0, gt=0)
    """The update is scaled by `alpha` / `rank`."""

    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Share of the rows of the update that are dropped in training."""

    def options(self, seed: int) -> dict[str, Any]:
        return {"r": self.rank, "alpha": self.alpha, "rank_dropout": self.dropout}
