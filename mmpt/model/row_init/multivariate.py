from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mmpt.model.row_init import RowInitialization

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Multivariate(RowInitialization):
    """Drawn from the Gaussian that has the old rows' mean and covariance (Hewitt 2021; Mundra et al. 2024, arXiv:2407.05841)."""

    def rows(self, old: "Tensor", count: int, generator: "torch.Generator", sequences: Iterable[Sequence[int]]) -> "Tensor":
        import torch

        mean = old.mean(dim=0)
        # Σ wᵢ (xᵢ − mean) / √V with normal w has the rows' covariance: no H × H matrix is needed.
        weights = torch.randn(count, len(old), generator=generator) / len(old) ** 0.5
        return mean + weights @ (old - mean)
