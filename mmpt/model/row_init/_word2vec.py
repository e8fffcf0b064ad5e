"""Skip-gram with negative sampling over new rows that stay convex combinations of old ones."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmpt.model.row_init.constrained_word2vec import ConstrainedWord2vec

ROWS_AT_A_TIME = 256


def learned_rows(
    settings: ConstrainedWord2vec, rows: Tensor, count: int, sequences: Iterable[Sequence[int]], generator: torch.Generator
) -> tuple[Tensor, list[float]]:
    """(float32 rows [count, H], the loss of each step) of new tokens with ids len(rows) … len(rows) + count − 1.

    Raises `ValueError` where no sequence has a new token beside another.
    """
    center = rows.mean(dim=0)
    # Of length 1 around the mean, whatever the table's scale: the learning rate then means the same for every backbone.
    scaled = (rows - center) / (rows - center).norm(dim=1).mean().clamp_min(1e-9)
    pairs = _pairs(sequences, len(rows), settings.window)
    if not len(pairs):
        raise ValueError("no sequence has a new token beside another token")
    chosen = torch.stack([torch.randperm(len(rows), generator=generator)[: settings.members] for _ in range(count)])
    logits = torch.zeros(chosen.shape, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=settings.learning_rate)
    losses = []
    for _ in range(settings.steps):
        drawn = pairs[torch.randint(len(pairs), (settings.batch,), generator=generator)]
        wrong = torch.randint(len(rows) + count, (settings.batch, settings.negatives), generator=generator)
        vectors = _vectors(scaled, chosen, logits, torch.cat([drawn, wrong], dim=1))
        words, near, far = vectors.split([1, 1, settings.negatives], dim=1)
        right = (words * near).sum(dim=2)
        away = (words * far).sum(dim=2)
        loss = -F.logsigmoid(right).mean() - F.logsigmoid(-away).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    weights = logits.detach()
    # [count, members, H] of all rows at once would be members times the table.
    parts = [
        _combined(rows, chosen[i : i + ROWS_AT_A_TIME], weights[i : i + ROWS_AT_A_TIME]) for i in range(0, count, ROWS_AT_A_TIME)
    ]
    return torch.cat(parts), losses


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
            # A pair of two new tokens stands twice, once for each as the one that learns.
            found += [both[both[:, 0] >= first_new], both[both[:, 1] >= first_new, ::-1]]
    return torch.from_numpy(np.concatenate(found).astype(np.int64))
