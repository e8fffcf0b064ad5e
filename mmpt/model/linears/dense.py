from typing import TYPE_CHECKING

from mmpt.model.linears import LinearLayer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Dense(LinearLayer):
    """Plain matrices, as transformers has them (own: the default)."""

    def put_into(self, model: "PreTrainedModel", seed: int) -> None:
        pass
