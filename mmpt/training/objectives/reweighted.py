"""The next token, where documents weigh as much as there is to be learned of them."""

from typing import TYPE_CHECKING, ClassVar, Literal

import pydantic

from mmpt.training.objectives.next_token import NextToken

if TYPE_CHECKING:
    import torch

    from mmpt.training.objectives import Built, Model
    from mmpt.vocabulary import Vocabulary


class Reweighted(NextToken):
    """Cross-entropy of each next token, in place of `next_token`, with a factor for each document that depends on its own loss as
    it is learned (Sow et al. 2025, arXiv:2502.06733). The head reads every pack twice: once for the losses alone.

    Of the documents that all ranks learn at the same time, mean losses are mapped to h from −1 (the least) to 1; factors are
    exp(strength · f(h)), with a mean of 1.
    """

    carries: ClassVar[tuple[str, ...]] = ("Dynamic loss-based reweighting",)
    whole_packs: ClassVar[bool] = True

    strategy: Literal["linupper", "quadratic", "extremes"] = "linupper"
    """f(h): linupper min(h + 1, 1), less for what is known; quadratic 1 − h², less for both ends; extremes |h|, more for them."""
    strength: float = pydantic.Field(default=1.0, ge=0)
    """1 / r of the paper; 0: every document alike."""

    def build(self, model: "Model", vocabulary: "Vocabulary", device: "torch.device") -> "Built":
        from mmpt.training.objectives._reweighted import BuiltReweighted

        return BuiltReweighted(self, vocabulary, device)
