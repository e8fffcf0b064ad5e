"""How the rows of new tokens start in an embedding table, beside those of a pretrained vocabulary.

The choices that Mundra et al. 2024 ("An Empirical Comparison of Vocabulary Expansion and Initialization Approaches for Language
Models") compare. Rows within the convex hull of the old ones never score higher than the best old one,
whatever the hidden state: a scalar product over a hull is largest at a vertex.
"""

from collections.abc import Iterable, Sequence
from typing import get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmpt.model.config import Growth

NOISE = 0.02  # of the old rows' standard deviation: enough to tell new rows apart, too little to leave the mean
MEMBERS = 8  # old rows that a random convex combination is made of
ROWS_AT_A_TIME = 256


def new_rows(old: Tensor, count: int, how: Growth, generator: torch.Generator, sequences: Iterable[Sequence[int]] = ()) -> Tensor:
    """`count` rows [count, H] in the dtype of `old` [V, H], a function of the arguments.

    `mean`: the mean of the old rows and a little noise (Hewitt 2021). `multivariate`: drawn from the Gaussian that has the old
    rows' mean and covariance. `convex_hull`: random convex combinations of a few old rows each. `constrained_word2vec`: convex
    combinations learned on `sequences` of ids, see there.
    """
    if how == "constrained_word2vec":
        return constrained_word2vec(old, count, sequences, generator)[0]
    rows = old.detach().float()
    mean = rows.mean(dim=0)
    if how == "mean":
        found = mean + NOISE * rows.std() * torch.randn(count, rows.shape[1], generator=generator)
    elif how == "multivariate":
        # Σ wᵢ (xᵢ − mean) / √V with normal w has the rows' covariance: no H × H matrix is needed.
        weights = torch.randn(count, len(rows), generator=generator) / len(rows) ** 0.5
        found = mean + weights @ (rows - mean)
    elif how == "convex_hull":
        members = torch.randint(len(rows), (count, min(MEMBERS, len(rows))), generator=generator)
        # Exponentials over their sum: uniform over the simplex.
        shares = -torch.rand(members.shape, generator=generator).clamp_min(1e-9).log()
        found = torch.einsum("nm,nmh->nh", shares / shares.sum(dim=1, keepdim=True), rows[members])
    else:
        raise ValueError(f"growth {how!r}, expected one of {', '.join(get_args(Growth))}")
    return found.to(old.dtype)


def constrained_word2vec(
    old: Tensor,
    count: int,
    sequences: Iterable[Sequence[int]],
    generator: torch.Generator,
    window: int = 5,
    negatives: int = 5,
    steps: int = 500,
    batch: int = 256,
    learning_rate: float = 0.05,
    members: int = 64,
) -> tuple[Tensor, list[float]]:
    """(rows [count, H], the loss of each step) of new tokens with ids len(old) … len(old) + count − 1.

    Each row is a convex combination of `members` old rows, chosen at random, whose weights (a softmax) are learned by skip-gram
    with negative sampling on `sequences` of ids: a new token and those within `window` of it score high, random ones low. Old
    rows never move. Raises `ValueError` where no sequence has a new token beside another.
    """
    rows = old.detach().float()
    center = rows.mean(dim=0)
    scaled = (rows - center) / (rows - center).norm(dim=1).mean().clamp_min(1e-9)
    pairs = _pairs(sequences, len(rows), window)
    if not len(pairs):
        raise ValueError("no sequence has a new token beside another token")
    chosen = torch.stack([torch.randperm(len(rows), generator=generator)[:members] for _ in range(count)])
    logits = torch.zeros(chosen.shape, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=learning_rate)
    losses = []
    for _ in range(steps):
        drawn = pairs[torch.randint(len(pairs), (batch,), generator=generator)]
        wrong = torch.randint(len(rows) + count, (batch, negatives), generator=generator)
        words, near, far = _vectors(scaled, chosen, logits, torch.cat([drawn, wrong], dim=1)).split([1, 1, negatives], dim=1)
        right = (words * near).sum(dim=2)
        away = (words * far).sum(dim=2)
        loss = -F.logsigmoid(right).mean() - F.logsigmoid(-away).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    weights = logits.detach()
    parts = [
        _combined(rows, chosen[i : i + ROWS_AT_A_TIME], weights[i : i + ROWS_AT_A_TIME]) for i in range(0, count, ROWS_AT_A_TIME)
    ]
    return torch.cat(parts).to(old.dtype), losses


def _combined(rows: Tensor, chosen: Tensor, logits: Tensor) -> Tensor:
    return torch.einsum("nm,nmh->nh", logits.softmax(dim=1), rows[chosen])


def _vectors(rows: Tensor, chosen: Tensor, logits: Tensor, ids: Tensor) -> Tensor:
    """[..., H] of `ids`: an old row, or a combination; only those that `ids` names are made."""
    fresh = ids >= len(rows)
    named, places = torch.unique(torch.where(fresh, ids - len(rows), 0), return_inverse=True)
    made = _combined(rows, chosen[named], logits[named])
    return torch.where(fresh.unsqueeze(-1), made[places], rows[ids.clamp_max(len(rows) - 1)])


def _pairs(sequences: Iterable[Sequence[int]], first_new: int, window: int) -> Tensor:
    """[n, 2] of (new token, a token within `window` of it)."""
    found = [np.zeros((0, 2), dtype=np.int64)]
    for sequence in map(np.asarray, sequences):
        for distance in range(1, min(window, len(sequence) - 1) + 1):
            both = np.stack([sequence[:-distance], sequence[distance:]], axis=1)
            found += [both[both[:, 0] >= first_new], both[both[:, 1] >= first_new, ::-1]]
    return torch.from_numpy(np.concatenate(found).astype(np.int64))
