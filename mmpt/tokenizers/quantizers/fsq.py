"""FSQ (Mentzer et al. 2023): each of a few dimensions rounded to a few levels; no codebook, so nothing can die."""

from typing import Literal

import pydantic
import torch
from torch import nn

from mmpt.config import Schema
from mmpt.tokenizers.quantizers.base import Quantized, without_loss


class FsqConfig(Schema):
    """One entry for each dimension: how many values it takes. The codebook size is their product."""

    kind: Literal["fsq"] = "fsq"
    levels: tuple[int, ...] = pydantic.Field(min_length=1)

    @pydantic.field_validator("levels")
    @classmethod
    def _at_least_two(cls, levels: tuple[int, ...]) -> tuple[int, ...]:
        if min(levels) < 2:
            raise ValueError("a dimension takes at least 2 values")
        return levels

    @property
    def codes(self) -> int:
        return int(torch.tensor(self.levels).prod())

    @property
    def dim(self) -> int:
        return len(self.levels)

    @property
    def depth(self) -> int:
        return 1


class FiniteScalarQuantizer(nn.Module):
    """Dimension i, bounded by tanh, is rounded to `levels[i]` values spread evenly over −1 … 1 (Mentzer et al. 2023, eq. 1)."""

    def __init__(self, config: FsqConfig):
        super().__init__()
        self.config = config
        levels = torch.tensor(config.levels, dtype=torch.int64)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("basis", torch.cumprod(torch.cat([levels.new_ones(1), levels[:-1]]), 0), persistent=False)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Quantized:
        """Quantise `x` [..., D]; `mask` changes nothing here, it is in the interface for quantisers that learn."""
        top = (self.levels - 1).to(torch.float32)
        position = (torch.tanh(x.float()) + 1) / 2 * top  # 0 … levels − 1
        digits = position.round()
        states = (position + (digits - position).detach()) / top * 2 - 1
        codes = (digits.detach().to(torch.int64) * self.basis).sum(dim=-1)
        return without_loss(states.to(x.dtype), codes)

    def bounded(self, x: torch.Tensor) -> torch.Tensor:
        """`x` [..., D] as it is before it is rounded, in −1 … 1."""
        return torch.tanh(x)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Vectors float32 [..., D] in −1 … 1 of `codes` [...]."""
        digits = codes[..., None] // self.basis % self.levels
        return digits.to(torch.float32) / (self.levels - 1) * 2 - 1
