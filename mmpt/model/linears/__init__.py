"""Linear layers: how the matrices of a decoder that is trained from scratch are held while they learn."""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from mmpt.methods import Method

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class LinearLayer(Method):
    """What stands in a decoder's layers in place of plain matrices. Saved models hold plain matrices whatever it is, so that they
    open anywhere; what training needs beside them is a file beside backbone/. `compiles`: whether torch.compile takes it."""

    key: ClassVar[str] = "linear"
    default_kind: ClassVar[str] = "dense"
    compiles: ClassVar[bool] = True

    @abstractmethod
    def put_into(self, model: "PreTrainedModel", seed: int) -> None:
        """Replace the linear layers of a decoder at random weights; a pure function of `seed`."""

    def restore(self, model: "PreTrainedModel", tensors: "dict[str, Tensor]") -> None:
        """Replace those of a plain decoder by saved ones, `tensors` by name. Raises `KeyError` or `ValueError` where they do not
        fit it."""
