"""Answers that are better than others to the same prompt."""

from typing import TYPE_CHECKING, ClassVar, Literal

import pydantic

from mmpt.training.objectives import Objective

if TYPE_CHECKING:
    import torch

    from mmpt.training.objectives import Built, Model
    from mmpt.vocabulary import Vocabulary


class Grpo(Objective):
    """Tokens of answers become likelier by the advantage A of their answer over others to its prompt, −min(r·A, clip(r)·A), where
    r is their probability over that under the model as the run began, which wrote them (GRPO, Shao et al. 2024, arXiv:2402.03300,
    without the divergence from a third model).

    Answers with advantages come from recipes/improve.py. The mean of r and the share of tokens whose r is clipped are logged
    (`grpo_ratio`, `grpo_clipped`)."""

    whole_packs: ClassVar[bool] = True
    compares: ClassVar[bool] = True

    clip: float = pydantic.Field(default=0.2, gt=0, lt=1)
    """r is held above 1 − clip where A is below 0."""
    clip_above: float = pydantic.Field(default=0.2, gt=0)
    """r is held below 1 + this where A is above 0; 0.28 in DAPO (Yu et al. 2025, arXiv:2503.14476)."""
    mean_over: Literal["answers", "tokens"] = "answers"
    """Each answer counts as one, or each of its tokens as in DAPO."""

    def build(self, model: "Model", vocabulary: "Vocabulary", device: "torch.device") -> "Built":
        from mmpt.training.objectives._grpo import BuiltGrpo

        return BuiltGrpo(self)
