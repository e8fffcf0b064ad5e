"""The next token of every document."""

from typing import TYPE_CHECKING

import pydantic

from mmpt.config import Schema
from mmpt.training.objectives import Objective

if TYPE_CHECKING:
    import torch

    from mmpt.training.objectives import Built, Model
    from mmpt.vocabulary import Vocabulary


class ModalityWeights(Schema):
    """Factor on the loss of each target by its modality; 0: read, never learned."""

    text: float = pydantic.Field(default=1.0, ge=0)
    """Of words."""
    special: float = pydantic.Field(default=1.0, ge=0)
    """Of special tokens: ends of documents, marks around media."""
    image: float = pydantic.Field(default=1.0, ge=0)
    """Of image codes."""
    speech: float = pydantic.Field(default=1.0, ge=0)
    """Of speech codes."""


class NextToken(Objective):
    """Cross-entropy of each next token, Σ weight · nll ÷ Σ weight over all packs of a step (Bengio et al. 2003, JMLR 3:1137; with
    weights by document and modality: own)."""

    weights: ModalityWeights = ModalityWeights()
    """Factors by modality, on top of the weights of the documents."""

    def build(self, model: "Model", vocabulary: "Vocabulary", device: "torch.device") -> "Built":
        from mmpt.training.objectives._next_token import BuiltNextToken

        return BuiltNextToken(self, vocabulary, device)
