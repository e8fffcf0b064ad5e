from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pydantic

from mmpt.model.row_init import RowInitialization

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Mean(RowInitialization):
    """The mean of the old rows and a little noise (Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language
    Models", nlp.stanford.edu/~johnhew/vocab-expansion.html)."""

    noise: float = pydantic.Field(default=0.02, ge=0)
    """Of the old rows' standard deviation: enough to tell new rows apart, too little to leave the mean."""

    def rows(self, old: "Tensor", count: int, generator: "torch.Generator", sequences: Iterable[Sequence[int]]) -> "Tensor":
        import torch

        return old.mean(dim=0) + self.noise * old.std() * torch.randn(count, old.shape[1], generator=generator)
