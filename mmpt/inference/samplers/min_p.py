"""A nucleus that widens where the model is unsure."""

from typing import TYPE_CHECKING

import pydantic

from mmpt.inference.samplers import Sampler
from mmpt.inference.samplers._draw import at_temperature, draw

if TYPE_CHECKING:
    from torch import Tensor


class MinP(Sampler):
    """Draws one of the tokens that have at least `min_p` times the probability of the likeliest (min-p sampling, Nguyen et al.
    2024, arXiv:2407.01082)."""

    temperature: float = pydantic.Field(default=1.0, gt=0, le=100)
    """Divides the logits, before tokens are cut off."""
    min_p: float = pydantic.Field(default=0.1, ge=0, le=1)
    """Share of the likeliest token's probability that a token needs; 0: all may be drawn, 1: only the likeliest."""

    def choose(self, logits: "Tensor", numbers: "Tensor") -> "Tensor":
        """See `Sampler.choose`."""
        probabilities = at_temperature(logits, self.temperature).softmax(dim=-1)
        bar = self.min_p * probabilities.amax(dim=-1, keepdim=True)
        return draw(probabilities * (probabilities >= bar), numbers)
