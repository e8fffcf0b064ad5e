"""Several tokens ahead."""

from typing import TYPE_CHECKING, ClassVar

import pydantic

from mmpt.training.objectives import Objective
from mmpt.training.objectives.next_token import ModalityWeights

if TYPE_CHECKING:
    import torch

    from mmpt.training.objectives import Built, Model
    from mmpt.vocabulary import Vocabulary


class FutureTokens(Objective):
    """The next `tokens` of every position, one after the other, from its last state alone: the state becomes a few vectors, to
    which a small decoder attends that reads what came in between (Future Token Prediction, Walker 2024, arXiv:2410.18160). Beside
    `next_token`, whose head it shares and by which the model goes on writing; the small decoder stays in the checkpoints."""

    carries: ClassVar[tuple[str, ...]] = ("Future Token Prediction (FTP)",)
    whole_packs: ClassVar[bool] = True

    tokens: int = pydantic.Field(default=4, ge=1, le=64)
    """How many, the next one among them."""
    vectors: int = pydantic.Field(default=4, ge=1)
    """That a state becomes."""
    depth: int = pydantic.Field(default=1, ge=1)
    """Blocks of the small decoder."""
    heads: int = pydantic.Field(default=8, ge=1)
    """Of its attention; they divide the model's width."""
    decay: float = pydantic.Field(default=1.0, gt=0, le=1)
    """Factor on the loss of each further token; the paper weighs those far ahead less."""
    every: int = pydantic.Field(default=1, ge=1)
    """From each so many-th token of a document alone: the head works `tokens` times for each of them."""
    weights: ModalityWeights = ModalityWeights()
    """Factors by the modality of the target, on top of the weights of the documents."""

    def build(self, model: "Model", vocabulary: "Vocabulary", device: "torch.device") -> "Built":
        from mmpt.training.objectives._future_tokens import BuiltFutureTokens

        return BuiltFutureTokens(self, model, vocabulary, device)
