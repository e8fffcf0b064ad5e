"""The nucleus, and the k likeliest."""

from typing import TYPE_CHECKING

import pydantic

from mmpt.inference.samplers import Sampler
from mmpt.inference.samplers._draw import at_temperature, draw

if TYPE_CHECKING:
    from torch import Tensor


class TopP(Sampler):
    """Draws one of the fewest tokens whose probabilities reach `top_p` (nucleus sampling, Holtzman et al. 2020,
    arXiv:1904.09751), of the `top_k` likeliest (Fan et al. 2018, arXiv:1805.04833)."""

    temperature: float = pydantic.Field(default=0.0, ge=0, le=100)
    """Divides the logits; at 0 the likeliest token is taken."""
    top_p: float = pydantic.Field(default=1.0, gt=0, le=1)
    """Probability that the tokens which may be drawn reach together."""
    top_k: int = pydantic.Field(default=0, ge=0)
    """Only so many of the likeliest may be drawn; 0: all."""

    @property
    def draws(self) -> bool:
        """Not at temperature 0."""
        return self.temperature > 0

    def choose(self, logits: "Tensor", numbers: "Tensor") -> "Tensor":
        """See `Sampler.choose`."""
        if not self.draws:
            return logits.argmax(dim=-1)
        scores = at_temperature(logits, self.temperature)
        if self.top_p == 1.0 and not self.top_k:  # nothing is cut off, so nothing need be sorted
            return draw(scores.softmax(dim=-1), numbers)
        scores, order = scores.sort(dim=-1, descending=True, stable=True)
        if self.top_k:
            scores[:, self.top_k :] = float("-inf")
        probabilities = scores.softmax(dim=-1)
        # A token stays where those before it do not reach top_p yet: the one that passes it is the last that stays.
        kept = probabilities.cumsum(dim=-1) - probabilities < self.top_p
        kept[:, 0] = True
        return order.gather(1, draw(probabilities * kept, numbers).unsqueeze(1)).squeeze(1)
