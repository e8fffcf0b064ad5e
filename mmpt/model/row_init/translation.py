from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

import pydantic

from mmpt.model.row_init import RowInitialization

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Translation(RowInitialization):
    """The old rows that a new token stands for, as IBM Model 1 learns it from the run's own sequences (Brown et al. 1993, "The
    Mathematics of Statistical Machine Translation", section 4.2).

    Each sequence that holds text and new tokens, such as speech and what is said in it, counts as a pair of sentences, in no
    order. A row is Σ p(word | token) · the word's row, and a little noise that tells tokens of one word apart; tokens that no
    sequence holds start at the mean.
    """

    reads_text: ClassVar[bool] = True

    rounds: int = pydantic.Field(default=10, ge=1)
    """Of expectation maximisation."""

    noise: float = pydantic.Field(default=0.1, ge=0)
    """Of the old rows' standard deviation."""

    longest: int = pydantic.Field(default=512, ge=1)
    """Longer sequences are left out: in them everything stands beside everything."""

    def rows(self, old: "Tensor", count: int, generator: "torch.Generator", sequences: Iterable[Sequence[int]]) -> "Tensor":
        from mmpt.model.row_init._translation import translated_rows

        return translated_rows(self, old, count, sequences, generator)
