"""A codebook that follows the data."""

from typing import TYPE_CHECKING, Literal

import pydantic

from mmpt.tokenizers.quantizers import Quantizer

if TYPE_CHECKING:
    from mmpt.tokenizers.quantizers._ema import EmaQuantizer


class Ema(Quantizer):
    """A learned codebook as exponential moving averages of its inputs (VQ-VAE, van den Oord et al. 2017, arXiv:1711.00937,
    appendix A), started by k-means, with dead codes restarted from inputs (Jukebox, Dhariwal et al. 2020, arXiv:2005.00341,
    section 3)."""

    codes: int = pydantic.Field(ge=1)  # pyright: ignore[reportIncompatibleMethodOverride]  # pydantic fields are attributes
    """How many entries the codebook has."""
    dim: int = pydantic.Field(ge=1)  # pyright: ignore[reportIncompatibleMethodOverride]  # pydantic fields are attributes
    """How many values an entry has."""
    decay: float = pydantic.Field(default=0.99, gt=0, le=1)
    """Of the moving averages: the share that is kept of them at each step; 1: the entries stay as they start."""
    commitment: float = pydantic.Field(default=0.25, ge=0)
    """Weight of ‖x − sg(q)‖², which draws inputs to their entries."""
    restart_below: float = pydantic.Field(default=0.05, ge=0, le=1)
    """A code used less than this share of its uniform use is dead and restarted from a random input."""
    restart_every: int = pydantic.Field(default=20, ge=1)
    """Training steps from one look for dead codes to the next. Where nine in ten were not used at all since the last look, all
    unused ones are restarted."""
    normalize: bool = False
    """Inputs and entries have one length, √dim, so that no term of a loss can be lowered by shrinking the inputs (ViT-VQGAN, Yu
    et al. 2022, arXiv:2110.04627, section 3.2)."""
    start: Literal["kmeans", "uniform"] = "kmeans"
    """Entries start from the first batch by k-means, or uniformly from ±1 ÷ codes."""
    seed: int = pydantic.Field(default=0, ge=0)
    """Of the random inputs that entries start and are restarted from."""

    @property
    def settled(self) -> bool:
        return self.decay == 1

    def build(self) -> "EmaQuantizer":
        from mmpt.tokenizers.quantizers._ema import EmaQuantizer

        return EmaQuantizer(self)
