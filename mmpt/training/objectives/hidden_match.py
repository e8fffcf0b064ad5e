"""A teacher's states inside."""

from typing import TYPE_CHECKING, ClassVar, Literal

import pydantic

from mmpt.training.objectives._taught import Taught

if TYPE_CHECKING:
    import torch

    from mmpt.training.objectives import Built, Model
    from mmpt.vocabulary import Vocabulary


class HiddenMatch(Taught):
    """States of a layer drawn towards those of a teacher's layer: an early layer to the last of a small teacher in the first
    part of a run (LET, Zhao et al. 2026, arXiv:2602.05393), or the last to that of a copy that has read on, for the whole of it
    (Self-Distillation for Further Pre-training, Lee et al. 2022, arXiv:2210.02871). Widths that differ are met by resampling the
    teacher's states along their width, so there is nothing to learn beside the model."""

    carries: ClassVar[tuple[str, ...]] = ("LET (Late-to-Early Training)", "Self-Distillation for Further Pre-training")

    layer: int | None = pydantic.Field(default=None, ge=1)
    """Of the model, from 1 on; null: the last, behind its norm."""
    teacher_layer: int | None = pydantic.Field(default=None, ge=1)
    """Of the teacher; null: the last, behind its norm."""
    distance: Literal["cosine", "squared"] = "cosine"
    """cosine: 1 − cosine; squared: the mean square of the differences."""

    def build(self, model: "Model", vocabulary: "Vocabulary", device: "torch.device") -> "Built":
        from mmpt.training.objectives._hidden_match import BuiltHiddenMatch

        return BuiltHiddenMatch(self, model, vocabulary, device)
