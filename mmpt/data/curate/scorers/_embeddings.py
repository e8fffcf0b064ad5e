"""Texts as vectors, by an encoder of transformers."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from mmpt.errors import ConfigError

BATCH = 32


def embeddings(name: str, texts: Sequence[str], max_tokens: int, what: str) -> np.ndarray:
    """float32 [texts, D]: the mean of the last states over the tokens of each, of length 1. Raises `ConfigError`."""
    model, tokenizer = _encoder(name, what)
    found = [np.zeros((0, model.config.hidden_size), np.float32)]
    for start in range(0, len(texts), BATCH):
        rows = tokenizer(list(texts[start : start + BATCH]), truncation=True, max_length=max_tokens)["input_ids"]
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=model.device)
        with torch.inference_mode():
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        mean = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        found.append(F.normalize(mean, dim=1).cpu().numpy())
    return np.concatenate(found)


@lru_cache(maxsize=2)
def _encoder(name: str, what: str) -> tuple[Any, Any]:
    """(model, tokenizer), loaded once in each process."""
    try:
        model, tokenizer = AutoModel.from_pretrained(name).eval(), AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as problem:
        raise ConfigError(f"{what}: {name} cannot be loaded ({problem})") from None
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer
