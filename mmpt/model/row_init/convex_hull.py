from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pydantic

from mmpt.model.row_init import RowInitialization

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class ConvexHull(RowInitialization):
    """Random convex combinations of a few old rows each (Mundra et al. 2024, arXiv:2407.05841)."""

    members: int = pydantic.Field(default=8, ge=1)
    """Old rows that a combination is made of."""

    def rows(self, old: "Tensor", count: int, generator: "torch.Generator", sequences: Iterable[Sequence[int]]) -> "Tensor":
        import torch

        members = torch.randint(len(old), (count, min(self.members, len(old))), generator=generator)
        # Exponentials over their sum: uniform over the simplex.
        shares = -torch.rand(members.shape, generator=generator).clamp_min(1e-9).log()
        return torch.einsum("nm,nmh->nh", shares / shares.sum(dim=1, keepdim=True), old[members])
