"""Always the likeliest."""

from typing import TYPE_CHECKING

from mmpt.inference.samplers import Sampler

if TYPE_CHECKING:
    from torch import Tensor


class Greedy(Sampler):
    """Takes the likeliest token each time, the first of equals (our own name for an argmax)."""

    @property
    def draws(self) -> bool:
        """Never."""
        return False

    def choose(self, logits: "Tensor", numbers: "Tensor") -> "Tensor":
        """See `Sampler.choose`."""
        return logits.argmax(dim=-1)
