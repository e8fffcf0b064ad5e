"""A codebook that learns by its gradient."""

from typing import TYPE_CHECKING, ClassVar

import pydantic

from mmpt.tokenizers.quantizers import Quantizer

if TYPE_CHECKING:
    from mmpt.tokenizers.quantizers._vq import VectorQuantizer


class Vq(Quantizer):
    """A codebook learned by its gradient (VQ-VAE, van den Oord et al. 2017, arXiv:1711.00937, eq. 3), never restarted; by default
    as the released SEED trains it (AILab-CVC/SEED, lavis/models/blip2_models/quantize_semantic.py)."""

    carries: ClassVar[tuple[str, ...]] = ("SEED tokenizer / SEED-LLaMA",)

    codes: int = pydantic.Field(ge=1)  # pyright: ignore[reportIncompatibleMethodOverride]  # pydantic fields are attributes
    """How many entries the codebook has, drawn uniformly from ±1 ÷ codes, or by k-means of what a fixed encoder hears."""
    dim: int = pydantic.Field(ge=1)  # pyright: ignore[reportIncompatibleMethodOverride]  # pydantic fields are attributes
    """How many values an entry has."""
    beta: float = pydantic.Field(default=0.25, ge=0)
    """Weight of the commitment in the loss ‖sg(x) − q‖² + beta · ‖x − sg(q)‖²."""
    legacy: bool = False
    """`beta` weighs the first term instead of the second: the slip of taming-transformers that SEED's training keeps."""

    task: bool = False
    """Entries take the gradient of what is made of them too, and not their inputs alone (Huh et al. 2023, arXiv:2305.08842,
    section 4.3)."""

    def build(self) -> "VectorQuantizer":
        from mmpt.tokenizers.quantizers._vq import VectorQuantizer

        return VectorQuantizer(self)
