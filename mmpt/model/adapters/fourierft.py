from typing import Any, ClassVar

import pydantic

from mmpt.model.adapters import Adapter


class Fourierft(Adapter):
    """A few coefficients of the update's Fourier transform learn (Gao et al. 2024, arXiv:2405.03003). Which ones is drawn
    again from the seed when a checkpoint is loaded."""

    settings_of_peft: ClassVar[str] = "FourierFTConfig"

    coefficients: int = pydantic.Field(default=1000, ge=1)
    """How many of each layer; at most as many as its matrix has entries."""

    scale: float = pydantic.Field(default=150.0, gt=0)
    """Factor on the update."""

    def options(self, seed: int) -> dict[str, Any]:
        return {
            "n_frequency": self.coefficients,
            "scaling": self.scale,
            "random_loc_seed": seed,
            "init_weights": True,  # zeros, in this one of peft's tuners against its default
        }
