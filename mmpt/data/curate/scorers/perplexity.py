"""How expected a text is to a language model."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pydantic

from mmpt.data.curate.scorers import Fitted, Scorer, text_of
from mmpt.document import Document


class Perplexity(Scorer):
    """Minus the logarithm of a text's perplexity under a causal LM of transformers: Liu et al. 2024, "POINTS" (arXiv:2409.04828),
    which keeps the 20 % of the lowest perplexity: `{by: perplexity, share: 0.2}` in `select`."""

    carries: ClassVar[tuple[str, ...]] = ("POINTS (affordable VLM strategies)",)

    holds_model: ClassVar = True
    model: str
    """Folder or Hugging Face name of the language model."""
    tokenizer: str | None = None
    """Folder or name of its tokenizer; null: it lies with the model."""
    max_tokens: int = pydantic.Field(default=512, ge=2)
    """Tokens of a text that are looked at."""

    def reads(self) -> tuple[str, ...]:
        return (self.model, *([self.tokenizer] if self.tokenizer else []))

    def score(self, documents: Sequence[Document], fitted: Fitted) -> np.ndarray:
        from mmpt.data.curate.scorers._language_model import language_model, log_probabilities, token_ids

        model, tokenizer = language_model(self.model, self.tokenizer, self.kind)
        rows = token_ids(tokenizer, [text_of(one) for one in documents], self.max_tokens)
        return log_probabilities(model, rows).astype(np.float32)
