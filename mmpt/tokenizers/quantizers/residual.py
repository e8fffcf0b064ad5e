"""Several codebooks one behind the other."""

from typing import TYPE_CHECKING

import pydantic

from mmpt.tokenizers.quantizers import Quantizer
from mmpt.tokenizers.quantizers.ema import Ema

if TYPE_CHECKING:
    from mmpt.tokenizers.quantizers._residual import ResidualQuantizer


class Residual(Quantizer):
    """Each stage quantises what the stages before it left (residual vector quantisation: SoundStream, Zeghidour et al. 2021,
    arXiv:2107.03312, algorithm 1). The codes of stage s are numbered from s · stage.codes."""

    stages: int = pydantic.Field(ge=1)
    """How many codebooks, and codes of a vector."""
    stage: Ema
    """The quantiser of every stage."""

    @property
    def codes(self) -> int:
        return self.stages * self.stage.codes

    @property
    def dim(self) -> int:
        return self.stage.dim

    @property
    def depth(self) -> int:
        return self.stages

    @property
    def settled(self) -> bool:
        return self.stage.settled

    def build(self) -> "ResidualQuantizer":
        from mmpt.tokenizers.quantizers._residual import ResidualQuantizer

        return ResidualQuantizer(self)
