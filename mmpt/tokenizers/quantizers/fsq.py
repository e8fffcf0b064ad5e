"""Rounding instead of a codebook."""

import math
from typing import TYPE_CHECKING, Any

import pydantic

from mmpt.tokenizers.quantizers import Quantizer

if TYPE_CHECKING:
    from mmpt.tokenizers.quantizers._fsq import FiniteScalarQuantizer


class Fsq(Quantizer):
    """Each of a few dimensions rounded to a few levels (FSQ, Mentzer et al. 2023, arXiv:2309.15505); no codebook, so nothing can
    die."""

    levels: tuple[int, ...] = pydantic.Field(min_length=1)
    """One entry for each rounded dimension: how many values it takes. The number of codes is their product."""
    dim: int  # pyright: ignore[reportIncompatibleMethodOverride]  # pydantic fields are attributes
    """How many values a vector has, by default as many as there are levels. If more, it is rounded along its principal axes (the
    first levels along the widest), which are found on the first batch, as k-means starts a codebook."""
    spread: float = pydantic.Field(default=0.0, ge=0)
    """Weight of log K − H of the shares that soft codes have, K being their number and H the entropy in nats: what keeps all
    codes in use (the term of the mean in MAGVIT-v2's entropy penalty, Yu et al. 2023, arXiv:2310.05737). Shares are a running
    mean over the batches of all ranks; dimensions are taken in groups of at most 1,024 codes."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _as_wide_as_levels(cls, values: Any) -> Any:
        return {"dim": len(values["levels"]), **values} if isinstance(values, dict) and "levels" in values else values

    @pydantic.field_validator("levels")
    @classmethod
    def _at_least_two(cls, levels: tuple[int, ...]) -> tuple[int, ...]:
        if min(levels) < 2:
            raise ValueError("a dimension takes at least 2 values")
        return levels

    @pydantic.model_validator(mode="after")
    def _wide_enough(self) -> "Fsq":
        if self.dim < len(self.levels):
            raise ValueError(f"dim is {self.dim}, expected at least the number of levels, {len(self.levels)}")
        return self

    @property
    def codes(self) -> int:
        return math.prod(self.levels)

    def build(self) -> "FiniteScalarQuantizer":
        from mmpt.tokenizers.quantizers._fsq import FiniteScalarQuantizer

        return FiniteScalarQuantizer(self)
