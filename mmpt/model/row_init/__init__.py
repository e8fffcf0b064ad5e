"""How the rows of new tokens start in an embedding table, beside those of a pretrained vocabulary.

The choices that Mundra et al. 2024 compare ("An Empirical Comparison of Vocabulary Expansion and Initialization Approaches for
Language Models", arXiv:2407.05841). Rows within the convex hull of the old ones never score higher than the best old one,
whatever the hidden state: a scalar product over a hull is largest at a vertex.
"""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from mmpt.methods import Method

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class RowInitialization(Method):
    """Rows of new tokens from those of old ones. `reads_text`: whether it looks at sequences of ids that hold the new tokens."""

    key: ClassVar[str] = "row_init"
    default_kind: ClassVar[str] = "mean"
    reads_text: ClassVar[bool] = False

    def new_rows(
        self, old: "Tensor", count: int, generator: "torch.Generator", sequences: Iterable[Sequence[int]] = ()
    ) -> "Tensor":
        """`count` rows [count, H] in the dtype of `old` [V, H], a function of the arguments; the new tokens have ids from V on.

        Raises `ValueError` where `sequences` do not serve a method that reads them.
        """
        return self.rows(old.detach().float(), count, generator, sequences).to(old.dtype)

    @abstractmethod
    def rows(self, old: "Tensor", count: int, generator: "torch.Generator", sequences: Iterable[Sequence[int]]) -> "Tensor":
        """As `new_rows`, in float32."""
