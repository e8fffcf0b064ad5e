"""Samplers: from the logits of a token to the token. Each row's choice depends on its own logits and random number alone.

sampler: greedy
sampler: {kind: min_p, temperature: 1.2, min_p: 0.05}
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from mmpt.methods import Method

if TYPE_CHECKING:
    from torch import Tensor


class Sampler(Method):
    """How the next token is chosen. A section without `kind` is a `top_p`."""

    key: ClassVar[str] = "sampler"
    default_kind: ClassVar[str] = "top_p"

    @property
    def draws(self) -> bool:
        """Whether it needs random numbers; what needs none leaves the sequence's generator as it is."""
        return True

    @abstractmethod
    def choose(self, logits: "Tensor", numbers: "Tensor") -> "Tensor":
        """The id int64 [rows] chosen of each row of `logits` float32 [rows, V], in which −∞ marks what is not allowed; `numbers`
        float64 [rows], from 0 up to 1, on the CPU, are its random ones (empty where it `draws` none)."""
