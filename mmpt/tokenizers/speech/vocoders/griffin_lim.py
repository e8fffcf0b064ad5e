"""No weights at all."""

from typing import TYPE_CHECKING

import pydantic

from mmpt.tokenizers.speech.vocoders import Vocoder

if TYPE_CHECKING:
    from mmpt.tokenizers.speech.vocoders._griffin_lim import GriffinLimVocoder


class GriffinLim(Vocoder):
    """Magnitudes by non-negative least squares, phases by Griffin-Lim with momentum (Perraudin et al. 2013, "A fast Griffin-Lim
    algorithm") from zero phase: nothing to train, nothing random."""

    iterations: int = pydantic.Field(default=32, ge=1)
    """Of the phases; more cost as much more time, and each lets a sample depend on 20 ms more to either side."""

    def build(self) -> "GriffinLimVocoder":
        from mmpt.tokenizers.speech.vocoders._griffin_lim import GriffinLimVocoder

        return GriffinLimVocoder(self)
