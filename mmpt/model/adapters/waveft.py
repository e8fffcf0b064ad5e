from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class Waveft(Adapter):
    """A few coefficients of the update's wavelet transform learn (Bilican et al. 2025, arXiv:2505.12532). Which ones is
    drawn again from the seed when a checkpoint is loaded."""

    settings_of_peft: ClassVar[str] = "WaveFTConfig"

    coefficients: int = pydantic.Field(default=2592, ge=1)
    """How many of each layer; at most as many as its matrix has entries."""

    scale: float = pydantic.Field(default=25.0, gt=0)
    """Factor on the update."""

    wavelet: str = "db1"
    """The wavelet, by the name that PyWavelets has for it."""

    def options(self, seed: int) -> dict[str, Any]:
        return {
            "n_frequency": self.coefficients,
            "scaling": self.scale,
            "wavelet_family": self.wavelet,
            "random_loc_seed": seed,
        }
