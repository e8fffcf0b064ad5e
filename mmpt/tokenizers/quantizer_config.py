"""Settings of the quantisers, apart from their modules: a specification is checked before torch is loaded."""

import math
from typing import Annotated, Literal

import pydantic

from mmpt.config import Schema


class EmaConfig(Schema):
    """`codes` entries of `dim` values. `decay` of the averages; `commitment` weighs ‖x − sg(q)‖²; a code used less than
    `restart_below` of its uniform share is restarted from a random input every `restart_every` training steps; where nine in ten
    were not used at all since the last time, all of these.

    `normalize`: inputs and entries have one length, √dim, so that no term of a loss can be lowered by shrinking the inputs
    (ViT-VQGAN, Yu et al. 2022, section 3.2). `start`: from the first batch by k-means, or uniformly from ±1 ÷ codes.
    """

    kind: Literal["ema"] = "ema"
    codes: int = pydantic.Field(ge=1)
    dim: int = pydantic.Field(ge=1)
    decay: float = pydantic.Field(0.99, gt=0, lt=1)
    commitment: float = pydantic.Field(0.25, ge=0)
    restart_below: float = pydantic.Field(0.05, ge=0, le=1)
    restart_every: int = pydantic.Field(20, ge=1)
    normalize: bool = False
    start: Literal["kmeans", "uniform"] = "kmeans"
    seed: int = pydantic.Field(0, ge=0)

    @property
    def depth(self) -> int:
        return 1


class VqConfig(Schema):
    """`codes` entries of `dim` values, drawn uniformly from ±1 ÷ codes. Neither started from data nor restarted.

    The loss is ‖sg(x) − q‖² + `beta` · ‖x − sg(q)‖². With `legacy`, `beta` weighs the first term instead of the second: the slip
    of taming-transformers that SEED's training keeps (AILab-CVC/SEED: lavis/models/blip2_models/quantize_semantic.py).
    """

    kind: Literal["vq"]
    codes: int = pydantic.Field(ge=1)
    dim: int = pydantic.Field(ge=1)
    beta: float = pydantic.Field(0.25, ge=0)
    legacy: bool = False

    @property
    def depth(self) -> int:
        return 1


class FsqConfig(Schema):
    """`levels`: one entry for each rounded dimension, how many values it takes; the codebook size is their product.

    `dim`: how wide the vectors are, by default as many values as levels. If more, they are rounded along their principal axes
    (the first levels along the widest), which are found on the first batch that is quantised, as k-means starts a codebook.

    `spread` weighs log K − H of the shares that soft codes have, K being their number and H the entropy in nats: what keeps all
    codes in use (of MAGVIT-v2's entropy penalty, Yu et al. 2023, the term of the mean). Shares are a running mean over the
    batches of all ranks. Dimensions are taken in groups of at most 1,024 codes.
    """

    kind: Literal["fsq"] = "fsq"
    levels: tuple[int, ...] = pydantic.Field(min_length=1)
    dim: int
    spread: float = pydantic.Field(0.0, ge=0)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _as_wide_as_levels(cls, values: dict) -> dict:
        return {"dim": len(values["levels"]), **values} if isinstance(values, dict) and "levels" in values else values

    @pydantic.field_validator("levels")
    @classmethod
    def _at_least_two(cls, levels: tuple[int, ...]) -> tuple[int, ...]:
        if min(levels) < 2:
            raise ValueError("a dimension takes at least 2 values")
        return levels

    @pydantic.model_validator(mode="after")
    def _wide_enough(self) -> "FsqConfig":
        if self.dim < len(self.levels):
            raise ValueError(f"dim is {self.dim}, expected at least the number of levels, {len(self.levels)}")
        return self

    @property
    def codes(self) -> int:
        return math.prod(self.levels)

    @property
    def depth(self) -> int:
        return 1


class ResidualConfig(Schema):
    """`stages` times a quantiser as `stage` says; `codes` in all, those of stage s numbered from s · stage.codes."""

    kind: Literal["residual"] = "residual"
    stages: int = pydantic.Field(ge=1)
    stage: EmaConfig

    @property
    def codes(self) -> int:
        return self.stages * self.stage.codes

    @property
    def dim(self) -> int:
        return self.stage.dim

    @property
    def depth(self) -> int:
        return self.stages


class NoneConfig(Schema):
    """States of `dim` values pass unchanged; there are no codes."""

    kind: Literal["none"] = "none"
    dim: int = pydantic.Field(ge=1)

    @property
    def codes(self) -> int:
        return 0

    @property
    def depth(self) -> int:
        return 1


QuantizerConfig = Annotated[EmaConfig | VqConfig | FsqConfig | ResidualConfig | NoneConfig, pydantic.Field(discriminator="kind")]
"""`codes`: size of the id space; `dim`: values of a vector; `depth`: codes of one vector."""
