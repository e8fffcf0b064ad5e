"""Logits moved before a token is chosen: penalties on what was written, and a bias for single tokens; and how likely the chosen
ones were before all that."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmpt.inference.settings import Settings


class Likely(NamedTuple):
    """Natural log-probability of a token, and the likeliest at its place, each (id, log-probability)."""

    logprob: float
    top: tuple[tuple[int, float], ...]


def adjusted(logits: Tensor, settings: Sequence[Settings], written: Sequence[Sequence[int]]) -> Tensor:
    """`logits` [rows, V] as OpenAI's API moves them: token j, which stands c times in what the row has `written`, by its
    `logit_bias` less c · `frequency_penalty` less `presence_penalty` where c > 0. Where no row asks for it, `logits` itself."""
    rows: list[int] = []
    ids: list[int] = []
    change: list[float] = []
    for row, (asked, before) in enumerate(zip(settings, written, strict=True)):
        if asked.frequency_penalty or asked.presence_penalty:
            seen, counts = torch.tensor(before, dtype=torch.int64).unique(return_counts=True)
            ids += seen.tolist()
            change += (-asked.presence_penalty - asked.frequency_penalty * counts).tolist()
        ids += [token for token, _ in asked.logit_bias]
        change += [bias for _, bias in asked.logit_bias]
        rows += [row] * (len(ids) - len(rows))
    if not ids:
        return logits
    where = torch.tensor([rows, ids], device=logits.device)
    moved = torch.tensor(change, device=logits.device)
    return logits.float().index_put((where[0], where[1]), moved, accumulate=True)


def likely(logits: Tensor, chosen: Sequence[int], most: int) -> list[Likely]:
    """Of each row of `logits` [rows, V] the token `chosen`, and `most` of the likeliest, by the softmax over the whole
    vocabulary."""
    scores = logits.float().log_softmax(dim=-1)
    own = scores.gather(1, torch.tensor(chosen, device=scores.device)[:, None])[:, 0].tolist()
    values, ids = scores.topk(most, dim=-1)
    tops = [tuple(zip(*one, strict=True)) for one in zip(ids.tolist(), values.tolist(), strict=True)]
    return [Likely(score, top) for score, top in zip(own, tops, strict=True)]
