"""What a teacher expects to come next."""

from typing import TYPE_CHECKING, ClassVar

import pydantic

from mmpt.training.objectives._taught import Taught

if TYPE_CHECKING:
    import torch

    from mmpt.training.objectives import Built, Model
    from mmpt.vocabulary import Vocabulary


class Distil(Taught):
    """KL divergence of the model's next tokens from a teacher's, over the whole vocabulary (Hinton et al. 2015,
    arXiv:1503.02531). With a smaller teacher and `until` below 1 it is the first stage of SALT (Rawat et al. 2024,
    arXiv:2410.18779); without `next_token` beside it, the pre-trained distillation of Turc et al. 2019 (arXiv:1908.08962)."""

    carries: ClassVar[tuple[str, ...]] = (
        "SALT (leveraging small LMs for LLM training)",
        "Well-Read Students (pre-trained distillation)",
    )

    temperature: float = pydantic.Field(default=1.0, gt=0)
    """By which the logits of both are divided; the term is multiplied by its square."""

    def build(self, model: "Model", vocabulary: "Vocabulary", device: "torch.device") -> "Built":
        from mmpt.training.objectives._distil import BuiltDistil

        return BuiltDistil(self, vocabulary, device)
