"""Answers that are preferred to others."""

from typing import TYPE_CHECKING, ClassVar

import pydantic

from mmpt.training.objectives import Objective

if TYPE_CHECKING:
    import torch

    from mmpt.training.objectives import Built, Model
    from mmpt.vocabulary import Vocabulary


class Dpo(Objective):
    """Preferred answers become likelier than rejected ones, beside the model as the run began: −ln σ(β·margin) for each pair,
    where the margin is Δ ln p(preferred) − Δ ln p(rejected) (DPO, Rafailov et al. 2023, arXiv:2305.18290).

    Pairs come from the source `preferences`. The mean of β·margin and the share of pairs in which it is above 0 are logged
    (`dpo_margin`, `dpo_accuracy`). With `next_token` beside it the preferred answers are learned as well."""

    whole_packs: ClassVar[bool] = True
    compares: ClassVar[bool] = True

    beta: float = pydantic.Field(default=0.1, gt=0)
    """β: the larger, the nearer to the start the model stays."""
    label_smoothing: float = pydantic.Field(default=0.0, ge=0, lt=0.5)
    """Share of pairs that are taken to be the wrong way round (conservative DPO)."""

    def build(self, model: "Model", vocabulary: "Vocabulary", device: "torch.device") -> "Built":
        from mmpt.training.objectives._dpo import BuiltDpo

        return BuiltDpo(self)
