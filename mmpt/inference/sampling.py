"""From logits to the next token of each row, each row by a sampler of its own."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from mmpt.inference.samplers import Sampler


def choose(logits: Tensor, forbidden: Tensor, samplers: Sequence[Sampler], generators: Sequence[torch.Generator]) -> list[int]:
    """A token for each row of `logits` [rows, V], none that `forbidden` bool [rows, V] names. A row whose sampler draws takes one
    number from its generator (on the CPU)."""
    logits = logits.float().masked_fill(forbidden, float("-inf"))
    # Rows of equal samplers are chosen together. How many share a pass changes no row's choice: each has its own number.
    rows_of: dict[Sampler, list[int]] = defaultdict(list)
    for row, sampler in enumerate(samplers):
        rows_of[sampler].append(row)
    found = torch.empty(len(samplers), dtype=torch.int64, device=logits.device)
    for sampler, rows in rows_of.items():
        drawn = [torch.rand(1, generator=generators[row], dtype=torch.float64) for row in rows if sampler.draws]
        numbers = torch.cat(drawn) if drawn else torch.empty(0, dtype=torch.float64)
        if len(rows) == len(samplers):  # the usual case: no copy of the logits
            return sampler.choose(logits, numbers).tolist()
        index = torch.tensor(rows, device=logits.device)
        found[index] = sampler.choose(logits[index], numbers)
    return found.tolist()
