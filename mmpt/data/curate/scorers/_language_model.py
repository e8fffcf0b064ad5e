"""Texts under causal language models of transformers."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from mmpt.errors import ConfigError


@lru_cache(maxsize=4)
def language_model(name: str, tokenizer: str | None, what: str) -> tuple[Any, Any]:
    """(model, tokenizer), loaded once in each process, on a GPU where there is one; `what` needs it. Raises `ConfigError`."""
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(name).eval()
        tokens = AutoTokenizer.from_pretrained(tokenizer or name)
    except (OSError, ValueError) as problem:
        raise ConfigError(f"{what}: {name} cannot be loaded ({problem})") from None
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), tokens


def token_ids(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """The first `max_tokens` tokens of each text."""
    return tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"] if texts else []


def log_probabilities(model: Any, rows: Sequence[Sequence[int]], batch: int = 16) -> np.ndarray:
    """float64 [rows]: the mean of ln p of each token given those before it, the first left out; NaN of fewer than two tokens."""
    found = np.full(len(rows), np.nan)
    order = sorted((place for place, row in enumerate(rows) if len(row) > 1), key=lambda place: len(rows[place]))
    for chosen in (order[start : start + batch] for start in range(0, len(order), batch)):
        longest = max(len(rows[place]) for place in chosen)
        ids = torch.tensor([[*rows[place], *[0] * (longest - len(rows[place]))] for place in chosen], device=model.device)
        lengths = torch.tensor([len(rows[place]) for place in chosen], device=model.device)
        mask = torch.arange(longest, device=model.device) < lengths[:, None]
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=mask.long()).logits[:, :-1].float()
            losses = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        means = (losses * mask[:, 1:]).double().sum(dim=1) / (lengths - 1)
        found[chosen] = -means.cpu().numpy()
    return found
