"""How surprising a text is to a language model."""

import math
from functools import lru_cache
from typing import Any, ClassVar

import pydantic

from mmpt.data.curate.rules import PartRule, Verdict
from mmpt.document import Document, Text
from mmpt.errors import ConfigError


class CaptionPerplexity(PartRule):
    """Perplexity of a text under a causal LM of transformers: Liu et al. 2024, "POINTS" (arXiv:2409.04828), which keeps the
    lowest 20 %.

    The score is kept as `perplexity`, so a first pass with a high `max` shows where a share would cut.
    """

    carries: ClassVar[tuple[str, ...]] = ("POINTS (affordable VLM strategies)",)

    judges: ClassVar = Text
    model: str
    """Folder or Hugging Face name of the language model."""
    max: float
    """Perplexity at most."""
    max_tokens: int = pydantic.Field(default=512, ge=2)
    """Tokens of a text that are looked at."""

    def judge(self, part: Text, document: Document, place: int) -> Verdict:
        import torch

        model, tokenizer = _language_model(self.model)
        ids = tokenizer(part.text, return_tensors="pt", truncation=True, max_length=self.max_tokens)["input_ids"]
        if ids.shape[1] < 2:  # the first token is not predicted, so nothing is
            return Verdict()
        with torch.inference_mode():
            perplexity = round(math.exp(float(model(input_ids=ids, labels=ids).loss)), 3)
        return Verdict(None if perplexity <= self.max else f"perplexity {perplexity:,.1f}", {"perplexity": perplexity})


@lru_cache(maxsize=1)
def _language_model(name: str) -> tuple[Any, Any]:
    """(model, tokenizer), loaded once in each process."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        return AutoModelForCausalLM.from_pretrained(name).eval(), AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as problem:
        raise ConfigError(f"caption_perplexity: {name} cannot be loaded ({problem})") from None
