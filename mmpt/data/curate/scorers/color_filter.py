"""How much better a language model knows a text for having seen what is wanted."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pydantic

from mmpt.data.curate.scorers import Fitted, Scorer, text_of
from mmpt.document import Document


class ColorFilter(Scorer):
    """ln p of a text a token under a model that was trained further on the target, less that under the same model before:
    Brandfonbrener et al. 2024, "CoLoR-Filter" (arXiv:2406.10670). Any two models of transformers with one
    tokenizer."""

    carries: ClassVar[tuple[str, ...]] = ("CoLoR-Filter",)

    holds_model: ClassVar = True
    conditional: str
    """Folder or Hugging Face name of the model that has seen the target."""
    prior: str
    """Of the one that has not."""
    tokenizer: str | None = None
    """Folder or name of the tokenizer of both; null: it lies with the prior."""
    max_tokens: int = pydantic.Field(default=512, ge=2)
    """Tokens of a text that are looked at."""

    def reads(self) -> tuple[str, ...]:
        return (self.conditional, self.prior, *([self.tokenizer] if self.tokenizer else []))

    def score(self, documents: Sequence[Document], fitted: Fitted) -> np.ndarray:
        from mmpt.data.curate.scorers._language_model import language_model, log_probabilities, token_ids

        tokens = self.tokenizer or self.prior
        prior, tokenizer = language_model(self.prior, tokens, self.kind)
        conditional, _ = language_model(self.conditional, tokens, self.kind)
        rows = token_ids(tokenizer, [text_of(one) for one in documents], self.max_tokens)
        return (log_probabilities(conditional, rows) - log_probabilities(prior, rows)).astype(np.float32)
