"""Gradients of texts under a causal LM, projected to few numbers."""

import re
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from mmpt.data.curate.scorers._language_model import language_model, token_ids
from mmpt.errors import ConfigError

SEED = 0


def projected_gradients(
    name: str, tokenizer: str, texts: Sequence[str], max_tokens: int, parameters: str, dim: int, what: str
) -> np.ndarray:
    """float32 [texts, dim]: the gradient of each text's mean loss by the weights that `parameters` names, each number of it added
    with a random sign to one of `dim` (the count sketch of Charikar et al. 2002, which keeps inner products in the mean)."""
    model, tokens = language_model(name, tokenizer, what)
    chosen = [weight for key, weight in model.named_parameters() if re.search(parameters, key)]
    if not chosen:
        raise ConfigError(f"{what}: no weight of {name} is named as {parameters!r}")
    random = torch.Generator().manual_seed(SEED)
    places = [torch.randint(dim, (one.numel(),), generator=random).to(one.device) for one in chosen]
    signs = [(torch.randint(2, (one.numel(),), generator=random) * 2 - 1).to(one.device, torch.float32) for one in chosen]
    found = np.full((len(texts), dim), np.nan, np.float32)
    for number, row in enumerate(token_ids(tokens, texts, max_tokens)):
        if len(row) < 2:
            continue
        ids = torch.tensor([row], device=model.device)
        loss = F.cross_entropy(model(input_ids=ids).logits[0, :-1].float(), ids[0, 1:])
        gradients = torch.autograd.grad(loss, chosen)
        sketch = torch.zeros(dim, device=model.device)
        for gradient, place, sign in zip(gradients, places, signs, strict=True):
            sketch.index_add_(0, place, gradient.flatten().float() * sign)
        found[number] = sketch.cpu().numpy()
    return found
