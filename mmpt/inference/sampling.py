"""From logits to the next token of each row; a row's choice depends on its own logits, settings and random numbers alone."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmpt.inference.settings import Sampling


def choose(logits: Tensor, forbidden: Tensor, sampling: Sequence[Sampling], generators: Sequence[torch.Generator]) -> list[int]:
    """A token for each row of `logits` [rows, V], none that `forbidden` bool [rows, V] names. A sampled row draws one number from
    its generator (on the CPU)."""
    logits = logits.float().masked_fill(forbidden, float("-inf"))
    found = logits.argmax(dim=-1)
    drawn = [row for row, one in enumerate(sampling) if one.temperature > 0]
    if drawn:
        rows = torch.tensor(drawn, device=logits.device)
        found[rows] = _draw(logits[rows], [sampling[row] for row in drawn], [generators[row] for row in drawn])
    return found.tolist()


def _draw(logits: Tensor, sampling: list[Sampling], generators: list[torch.Generator]) -> Tensor:
    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, device=logits.device).unsqueeze(1)

    numbers = torch.cat([torch.rand(1, generator=generator, dtype=torch.float64) for generator in generators])
    scores = logits / column([one.temperature for one in sampling])
    if all(one.top_p == 1.0 and one.top_k == 0 for one in sampling):
        return _pick(scores.softmax(dim=-1), numbers)
    scores, order = scores.sort(dim=-1, descending=True, stable=True)
    places = torch.arange(scores.shape[1], device=logits.device)
    scores = scores.masked_fill(places >= column([one.top_k or scores.shape[1] for one in sampling]), float("-inf"))
    probabilities = scores.softmax(dim=-1)
    kept = probabilities.cumsum(dim=-1) - probabilities < column([one.top_p for one in sampling])
    kept[:, 0] = True
    picked = _pick(probabilities * kept, numbers)
    return order.gather(1, picked.unsqueeze(1)).squeeze(1)


def _pick(weights: Tensor, numbers: Tensor) -> Tensor:
    """The place in each row [rows, V] where its number, in 0 … 1 of the row's sum, falls; never one of weight 0."""
    sums = weights.double().cumsum(dim=-1)
    aim = numbers.to(weights.device).unsqueeze(1) * sums[:, -1:]
    place = torch.searchsorted(sums, aim, right=True).squeeze(1)
    # Rounding may aim at the very end: the last place with a weight.
    last = weights.shape[1] - 1 - (weights > 0).flip(1).int().argmax(dim=1)
    return torch.minimum(place, last)
