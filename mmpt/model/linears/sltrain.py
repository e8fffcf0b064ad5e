from typing import TYPE_CHECKING, ClassVar

import pydantic

from mmpt.model.linears import LinearLayer

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class Sltrain(LinearLayer):
    """Low rank plus a fixed random sparse support, W = alpha / rank · B · A + S (SLTrain, Han et al. 2024, arXiv:2406.02214)."""

    carries: ClassVar[tuple[str, ...]] = ("SLTrain",)

    compiles: ClassVar[bool] = False

    rank: int = pydantic.Field(default=128, ge=1)
    """Of B · A, in every linear layer of the decoder's layers; the paper's: a quarter of the width."""

    alpha: float = pydantic.Field(default=32.0, gt=0)
    """B · A is scaled by `alpha` / `rank`."""

    share: float = pydantic.Field(default=0.03, gt=0, le=1)
    """Of the entries of a matrix, those that S has, the same number in each row."""

    def put_into(self, model: "PreTrainedModel", seed: int) -> None:
        from mmpt.model.linears._sltrain import replace_layers

        replace_layers(model, self, seed)

    def restore(self, model: "PreTrainedModel", tensors: "dict[str, Tensor]") -> None:
        from mmpt.model.linears._sltrain import restored_layers

        restored_layers(model, self, tensors)
