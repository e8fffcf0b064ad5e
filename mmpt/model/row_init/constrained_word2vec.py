from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

import pydantic

from mmpt.model.row_init import RowInitialization

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class ConstrainedWord2vec(RowInitialization):
    """Convex combinations of old rows, learned by skip-gram on the run's own sequences (Mundra et al. 2024, arXiv:2407.05841).

    Each new row is a combination of `members` old rows, chosen at random, whose weights (a softmax) learn with negative
    sampling: a new token and those within `window` of it score high, random ones low. Old rows never move.
    """

    carries: ClassVar[tuple[str, ...]] = ("Vocabulary expansion and initialisation (CW2V)",)

    reads_text: ClassVar[bool] = True

    members: int = pydantic.Field(default=64, ge=1)
    """Old rows that a combination is made of."""

    window: int = pydantic.Field(default=5, ge=1)
    """Tokens on each side of a new one that count as beside it."""

    negatives: int = pydantic.Field(default=5, ge=1)
    """Random tokens that each pair is told from."""

    steps: int = pydantic.Field(default=500, ge=1)
    """Steps of Adam."""

    batch: int = pydantic.Field(default=256, ge=1)
    """Pairs in a step."""

    learning_rate: float = pydantic.Field(default=0.05, gt=0)
    """Of Adam, constant."""

    def rows(self, old: "Tensor", count: int, generator: "torch.Generator", sequences: Iterable[Sequence[int]]) -> "Tensor":
        from mmpt.model.row_init._word2vec import learned_rows

        return learned_rows(self, old, count, sequences, generator)[0]
